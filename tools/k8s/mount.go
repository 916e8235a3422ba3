package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// mount writes what a container finds in its mounted folders into dir: ConfigMaps as they are, and invented Secrets.
func mount(r *rendered, p pod, c corev1.Container, dir string) error {
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		under := filepath.Join(dir, m.MountPath)
		if err := os.MkdirAll(under, 0o700); err != nil {
			return err
		}
		if i < 0 && p.claims(m.Name) {
			continue
		}
		if i < 0 {
			return fmt.Errorf("there is no volume %s", m.Name)
		}
		v := p.Spec.Volumes[i]
		sources := []corev1.VolumeProjection{}
		switch {
		case v.ConfigMap != nil:
			sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items,
			}})
		case v.Secret != nil:
			sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items,
			}})
		case v.Projected != nil:
			sources = v.Projected.Sources
		}
		for _, source := range sources {
			if err := mountSource(r, source, under); err != nil {
				return err
			}
		}
	}
	return nil
}

// claims tells whether a pod has a volume of its own by a name.
func (p pod) claims(name string) bool {
	owner, ok := p.owner.(*appsv1.StatefulSet)
	return ok && slices.ContainsFunc(owner.Spec.VolumeClaimTemplates, func(c corev1.PersistentVolumeClaim) bool { return c.Name == name })
}

// mountSource writes the files of one source. Without items all of them have the names of their keys.
func mountSource(r *rendered, source corev1.VolumeProjection, under string) error {
	var data map[string]string
	var items []corev1.KeyToPath
	switch {
	case source.ConfigMap != nil:
		made, found := named[*corev1.ConfigMap](r, source.ConfigMap.Name)
		if !found {
			return fmt.Errorf("there is no ConfigMap %s", source.ConfigMap.Name)
		}
		data, items = made.Data, source.ConfigMap.Items
	case source.Secret != nil:
		var err error
		if data, err = invented(source.Secret.Name); err != nil {
			return err
		}
		items = source.Secret.Items
	}
	if items == nil {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		text, found := data[item.Key]
		file := filepath.Join(under, item.Path)
		if !found {
			return fmt.Errorf("%s: there is no key %s", file, item.Key)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// invented returns the files of a Secret, made up.
func invented(secret string) (map[string]string, error) {
	data := map[string]string{}
	for _, key := range byHand()["Secret/"+secret] {
		data[key] = "invented"
	}
	if _, found := data["tls.crt"]; found {
		certificate, key, err := newCertificate()
		if err != nil {
			return nil, err
		}
		data["tls.crt"], data["tls.key"], data["ca.crt"] = certificate, key, certificate
	}
	if _, found := data["encryption.conf"]; found {
		data["encryption.conf"] = "cipher: aes\nkey: \"" + rand.Text() + "\"\n"
	}
	return data, nil
}

// newCertificate returns a certificate that has signed itself, and its key.
func newCertificate() (certificate, key string, err error) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "invented"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		return "", "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		return "", "", err
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", private), nil
}
