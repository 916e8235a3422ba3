//go:build race

package quota

// raceDetector tells that everything takes ten times as long.
const raceDetector = true
