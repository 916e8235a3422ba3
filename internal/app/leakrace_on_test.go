//go:build race

package app

// huntedQueries is how many queries are simply answered: fewer with the race detector, under which they take ten times as long.
const huntedQueries = 400
