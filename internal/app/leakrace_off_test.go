//go:build !race

package app

// huntedQueries is how many queries are simply answered.
const huntedQueries = 2000
