package query

import (
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/strict"
)

// ReadStrict reads JSON into v by the rules of package strict. What breaks them is Malformed with the code BadJSON.
func ReadStrict(data []byte, v any) error {
	if err := strict.Read(data, v); err != nil {
		return fault.Because("read JSON", fault.Malformed, fault.BadJSON, err)
	}
	return nil
}
