package answers

// What a Cache does with its bucket, as OnTrouble names it.
const (
	readAnswer = "read answer"
	keepAnswer = "keep answer"
)

// Exchanges returns everything that OnTrouble can be told of, so that metrics can exist at zero from the start.
func Exchanges() []string { return []string{readAnswer, keepAnswer} }
