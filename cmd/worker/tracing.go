package main

import (
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"discountquery.example/worker/internal/app"
)

// otelVariables are the variables of OpenTelemetry (OTEL_*) as they are set in the environment. An empty one counts as not set.
type otelVariables map[string]string

// readOTel returns the variables of OpenTelemetry in environ.
func readOTel(environ []string) otelVariables {
	variables := otelVariables{}
	for _, set := range environ {
		if name, value, _ := strings.Cut(set, "="); strings.HasPrefix(name, "OTEL_") {
			variables[name] = strings.TrimSpace(value)
		}
	}
	return variables
}

// otlp returns the name and the value of a setting of the exporter: the one for traces comes before the one for all signals.
func (v otelVariables) otlp(setting string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + setting
	if v[name] == "" {
		name = "OTEL_EXPORTER_OTLP_" + setting
	}
	return name, v[name]
}

// tracing decides whether spans are exported and how. The SDK reads the same variables itself, but it goes on with a default when it can't
// use one, and says so in words of its own or not at all: here such a variable is an error.
func tracing(environ []string) (app.Tracing, error) {
	v := readOTel(environ)
	exporter := v["OTEL_TRACES_EXPORTER"]
	_, endpoint := v.otlp("ENDPOINT")
	switch {
	case exporter != "" && exporter != "otlp" && exporter != "none":
		return app.Tracing{}, usagef("OTEL_TRACES_EXPORTER must be otlp or none")
	case strings.EqualFold(v["OTEL_SDK_DISABLED"], "true") || exporter == "none" || exporter == "" && endpoint == "":
		return app.Tracing{}, nil
	}
	for _, check := range []func() error{v.checkEndpoint, v.checkPairs, v.checkNumbers, v.checkCompression, v.checkFiles, v.checkSampler} {
		if err := check(); err != nil {
			return app.Tracing{}, err
		}
	}
	chosen := app.Tracing{Protocol: app.TracesHTTP}
	name, protocol := v.otlp("PROTOCOL")
	switch protocol {
	case "", app.TracesHTTP:
	case app.TracesGRPC:
		chosen.Protocol = app.TracesGRPC
	default:
		return app.Tracing{}, usagef("%s must be %s or %s", name, app.TracesHTTP, app.TracesGRPC)
	}
	if endpoint == "" {
		chosen.Endpoint = nearby[chosen.Protocol]
	}
	return chosen, nil
}

// nearby holds the endpoints that the specification of OTLP has for those who name none. The SDK would use TLS there.
var nearby = map[string]string{app.TracesHTTP: "http://localhost:4318/v1/traces", app.TracesGRPC: "http://localhost:4317"}

func (v otelVariables) checkEndpoint() error {
	name, endpoint := v.otlp("ENDPOINT")
	if endpoint == "" {
		return nil
	}
	address, err := url.Parse(endpoint)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return usagef("%s must be a URL such as http://localhost:4318", name)
	}
	return nil
}

// checkPairs repeats no value: headers hold what a collector knows us by.
func (v otelVariables) checkPairs() error {
	headers, _ := v.otlp("HEADERS")
	for _, name := range []string{headers, "OTEL_RESOURCE_ATTRIBUTES"} {
		for pair := range strings.SplitSeq(v[name], ",") {
			field, value, paired := strings.Cut(pair, "=")
			_, err := url.PathUnescape(value)
			if v[name] != "" && (!paired || strings.TrimSpace(field) == "" || err != nil) {
				return usagef("%s must be name=value pairs with commas between them, with %% escapes in values", name)
			}
		}
	}
	return nil
}

func (v otelVariables) checkNumbers() error {
	timeout, _ := v.otlp("TIMEOUT")
	for _, name := range []string{
		timeout, "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	} {
		if number, err := strconv.Atoi(v[name]); v[name] != "" && (err != nil || number <= 0) {
			return usagef("%s must be a whole number above 0 (times are in milliseconds)", name)
		}
	}
	return nil
}

func (v otelVariables) checkCompression() error {
	name, compression := v.otlp("COMPRESSION")
	if compression != "" && compression != "gzip" && compression != "none" {
		return usagef("%s must be gzip or none", name)
	}
	return nil
}

func (v otelVariables) checkFiles() error {
	for _, setting := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
		name, file := v.otlp(setting)
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return usagef("%s: %w", name, err)
		}
	}
	return nil
}

// samplers are the samplers that the specification of OpenTelemetry names and its SDK for Go has.
var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

func (v otelVariables) checkSampler() error {
	sampler := strings.ToLower(v["OTEL_TRACES_SAMPLER"])
	if sampler != "" && !slices.Contains(samplers, sampler) {
		return usagef("OTEL_TRACES_SAMPLER must be one of %s", strings.Join(samplers, ", "))
	}
	ratio := v["OTEL_TRACES_SAMPLER_ARG"]
	if ratio == "" || !strings.HasSuffix(sampler, "traceidratio") {
		return nil
	}
	if part, err := strconv.ParseFloat(ratio, 64); err != nil || !(part >= 0 && part <= 1) {
		return usagef("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1")
	}
	return nil
}
