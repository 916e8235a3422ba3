//go:build race

package deadletter

// raceDetector tells that everything takes ten times as long.
const raceDetector = true
