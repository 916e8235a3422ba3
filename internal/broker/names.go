package broker

import "strings"

// Names builds the names of streams, consumers, buckets and filters below one prefix, so that no other room writes them by hand.
// It is a small value: copy it freely.
type Names struct {
	prefix string
}

// NewNames returns the names below prefix. Topology.Validate says what a prefix may look like.
func NewNames(prefix string) Names { return Names{prefix: prefix} }

// Queries returns the name of the stream that holds queries until they are answered.
func (n Names) Queries() string { return n.stream("QUERIES") }

// Retries returns the name of the stream that holds scheduled retries and the retries that came due.
func (n Names) Retries() string { return n.stream("RETRIES") }

// Results returns the name of the stream that holds results.
func (n Names) Results() string { return n.stream("RESULTS") }

// Dead returns the name of the stream that holds dead letters.
func (n Names) Dead() string { return n.stream("DEAD") }

// Advisories returns the name of the stream that holds the broker's own notes on messages it gave up.
func (n Names) Advisories() string { return n.stream("ADVISORIES") }

// Audit returns the name of the stream that holds what operators did.
func (n Names) Audit() string { return n.stream("AUDIT") }

// PaceBucket returns the name of the bucket that holds the fleet's pace, one key per upstream account.
func (n Names) PaceBucket() string { return n.prefix + "_pace" }

// ReplaysBucket returns the name of the bucket that holds the records of replays.
func (n Names) ReplaysBucket() string { return n.prefix + "_replays" }

// AnswersBucket returns the name of the bucket that holds recent answers.
func (n Names) AnswersBucket() string { return n.prefix + "_answers" }

// Consumer returns the name of the durable consumer of one provider and lane. It is the same on the queries and on the retries.
func (n Names) Consumer(provider, lane string) string { return provider + "-" + lane }

// ClientConsumer returns the name of the durable consumer of one client's queries.
func (n Names) ClientConsumer(provider, lane, client string) string {
	return n.Consumer(provider, lane) + "-" + client
}

// ClientQueryFilter returns the subject of one client's queries to provider in lane.
func (n Names) ClientQueryFilter(provider, lane, client string) string {
	return n.subject("query", provider, lane, client)
}

// QueryFilter returns the subjects of all clients' queries to provider in lane.
func (n Names) QueryFilter(provider, lane string) string {
	return n.subject("query", provider, lane, "*")
}

// RetryFilter returns the subjects of all clients' retries to provider in lane that came due.
func (n Names) RetryFilter(provider, lane string) string {
	return n.subject("retry", "due", provider, lane, "*")
}

// ScheduleFilter returns the subjects that hold scheduled retries until they come due. No consumer reads them.
func (n Names) ScheduleFilter() string { return n.subject("retry", "at", ">") }

// ResultFilter returns the subjects of all results.
func (n Names) ResultFilter() string { return n.subject("result", ">") }

// DeadFilter returns the subjects of all dead letters.
func (n Names) DeadFilter() string { return n.subject("dead", ">") }

// DeadFilterOf returns the subjects of the dead letters of one provider and reason, of all queries and clients.
func (n Names) DeadFilterOf(provider, reason string) string {
	return n.subject("dead", "*", provider, "*", reason)
}

// AuditFilter returns the subjects of all records of what operators did.
func (n Names) AuditFilter() string { return n.subject("audit", ">") }

// AdvisoryFilters returns the subjects of the broker's own notes on messages of the queries and the retries that it will not
// deliver again: those that met their maximum of deliveries and those that were terminated.
func (n Names) AdvisoryFilters() []string {
	const advisory = "$JS.EVENT.ADVISORY.CONSUMER."
	var subjects []string
	for _, stream := range []string{n.Queries(), n.Retries()} {
		subjects = append(subjects, advisory+"MAX_DELIVERIES."+stream+".>", advisory+"MSG_TERMINATED."+stream+".>")
	}
	return subjects
}

// Short returns the name of a stream without what the prefix adds to it, as in QUERIES.
func (n Names) Short(stream string) string { return strings.TrimPrefix(stream, n.stream("")) }

func (n Names) stream(what string) string { return strings.ToUpper(n.prefix) + "_" + what }

func (n Names) subject(tokens ...string) string { return n.prefix + "." + strings.Join(tokens, ".") }

// isToken tells whether name can stand as one token of a subject and as part of a stream's, consumer's and bucket's name.
func isToken(name string) bool {
	for _, b := range []byte(name) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '_' && b != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxToken
}

// maxToken bounds the length of a prefix, provider or lane. The server's own bound on a consumer's name is 255 characters.
const maxToken = 64

// isClient tells whether name can stand as the client's token of a subject.
func isClient(name string) bool { return isToken(strings.ToLower(name)) }
