package publish

// What a Publisher does with the broker, as OnTrouble names it.
const (
	storeResult   = "store result"
	storeDead     = "store dead letter"
	scheduleRetry = "schedule retry"
	lookForResult = "look for result"
	lookUpResult  = "look up result"
	lookForDead   = "look for dead letter"
)

// Exchanges returns everything that OnTrouble can be told of, so that metrics can exist at zero from the start.
func Exchanges() []string {
	return []string{storeResult, storeDead, scheduleRetry, lookForResult, lookUpResult, lookForDead}
}
