package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/anchore/syft/syft/format/common/cyclonedxhelpers"
	"github.com/anchore/syft/syft/format/common/spdxhelpers"
	"github.com/anchore/syft/syft/sbom"
	"github.com/google/uuid"
)

// The media types of the documents. The version of CycloneDX is one that the scanners in use read.
const (
	SPDXMediaType      = "application/spdx+json"
	CycloneDXMediaType = "application/vnd.cyclonedx+json"

	cycloneDXVersion = cyclonedx.SpecVersion1_6
)

// SPDX writes what was collected as SPDX 2.3 in JSON. Syft's own encoder would write a random id and the time.
func SPDX(image Image, collected sbom.SBOM) ([]byte, error) {
	document := spdxhelpers.ToFormatModel(collected)
	if document == nil {
		return nil, fmt.Errorf("%s can't be said in SPDX", image.Name)
	}
	document.DocumentNamespace = image.Namespace + "/spdx/" + identity(image).String()
	document.CreationInfo.Created = image.Created.UTC().Format(time.RFC3339)
	for _, one := range document.Packages {
		for _, reference := range one.PackageExternalReferences {
			// The image is for several platforms, so syft has no architecture to put there.
			reference.Locator = strings.TrimSuffix(reference.Locator, "?arch=")
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("write SPDX: %w", err)
	}
	return text.Bytes(), nil
}

// CycloneDX writes what was collected as CycloneDX 1.6 in JSON. Syft's own encoder would write a random id and the time.
func CycloneDX(image Image, collected sbom.SBOM) ([]byte, error) {
	document := cyclonedxhelpers.ToFormatModel(collected)
	document.SerialNumber = identity(image).URN()
	document.Metadata.Timestamp = image.Created.UTC().Format(time.RFC3339)
	var text bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	encoder.SetEscapeHTML(false)
	if err := encoder.EncodeVersion(document, cycloneDXVersion); err != nil {
		return nil, fmt.Errorf("write CycloneDX: %w", err)
	}
	return text.Bytes(), nil
}

// identity returns the id of the documents, which is the same for the same image.
func identity(image Image) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(image.Namespace+"@"+image.Digest))
}
