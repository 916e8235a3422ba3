// Package faults proves what the worker promises: it runs real brokers, real workers and simulated upstreams, breaks what lies between
// them, and counts afterwards. Its tests have the build tag "faults", because they take long and want the machine for themselves. It must
// never be imported, and nothing of it enters the product.
package faults
