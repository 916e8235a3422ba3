package app

import (
	"maps"
	"os"
	"slices"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/telemetry"
)

// What a key is for. Every private key in the folder opens, and one of them seals.
const (
	keyOpens       = "unseal"
	keySeals       = "seal"
	keyFingerprint = "fingerprint"
	keySigns       = "upstream_sign"
	keyEncrypts    = "upstream_encrypt"
	keyVerifies    = "upstream_verify"
	keyTLS         = "upstream_tls"
)

// keyFile is one file with a key.
type keyFile struct {
	use, kid, path string
}

// agesOfUpstreams returns the ages of the keys towards and of the upstreams whose files are there.
func agesOfUpstreams(c config.Providers, now time.Time) []telemetry.KeyAge {
	var ages []telemetry.KeyAge
	for _, file := range keysOfUpstreams(c) {
		if written, ok := writtenAt(file.path); ok {
			ages = append(ages, telemetry.KeyAge{Use: file.use, KID: file.kid, Age: max(now.Sub(written), 0)})
		}
	}
	return ages
}

// agesOfRing returns the ages of the worker's own keys since they were made, or written if they do not tell. The one that seals stands there
// twice, because all of them open.
func agesOfRing(keys []card.KeyInfo, now time.Time) []telemetry.KeyAge {
	var ages []telemetry.KeyAge
	for _, key := range keys {
		made := key.Created
		if made.IsZero() {
			made, _ = writtenAt(key.File)
		}
		age := telemetry.KeyAge{Use: keyOpens, KID: key.ID, Age: max(now.Sub(made), 0)}
		if key.Fingerprint {
			age.Use = keyFingerprint
		} else if key.Active {
			ages = append(ages, telemetry.KeyAge{Use: keySeals, KID: age.KID, Age: age.Age})
		}
		ages = append(ages, age)
	}
	return ages
}

// writtenAt returns when a file was written, or false if it is not there.
func writtenAt(path string) (time.Time, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// keysOfUpstreams returns the keys towards and of the upstreams. A certificate that we show has the name of its account, as it has no id.
func keysOfUpstreams(c config.Providers) []keyFile {
	var files []keyFile
	add := func(use, kid, path string) {
		if path != "" {
			files = append(files, keyFile{use: use, kid: kid, path: path})
		}
	}
	for _, one := range accounts(c) {
		add(keyTLS, accountName(one.Account), one.tls.KeyFile)
	}
	if !c.UnionPay.Enabled {
		return files
	}
	for _, name := range c.UnionPay.AccountNames() {
		own := c.UnionPay.Account(name)
		add(keySigns, own.JWS.KID, own.JWS.PrivateKeyFile)
		add(keyEncrypts, own.Encryption.KID, own.Encryption.PublicKeyFile)
		for _, kid := range slices.Sorted(maps.Keys(own.Response.KeyFiles)) {
			add(keyVerifies, kid, own.Response.KeyFiles[kid])
		}
	}
	return files
}
