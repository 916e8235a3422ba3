package query

import "time"

// TypeAudit is a record of something that an operator did.
const TypeAudit = "discount.ops.audit.v1"

// AuditAction names what an operator did. Its first word is what it was done to.
type AuditAction string

// What operators do.
const (
	// AuditPaceSet is a new rate for an account.
	AuditPaceSet AuditAction = "pace.set"
	// AuditPacePause and AuditPaceResume stop an account's calls and let them go on.
	AuditPacePause  AuditAction = "pace.pause"
	AuditPaceResume AuditAction = "pace.resume"
	// AuditPaceReset forgets what was learned about an account's rate.
	AuditPaceReset AuditAction = "pace.reset"

	// AuditDeadReplay asks the queries of dead letters again, in a batch that is the target; AuditReplayResume goes on with one, and
	// AuditReplayCancel ends one early.
	AuditDeadReplay   AuditAction = "dead.replay"
	AuditReplayResume AuditAction = "replay.resume"
	AuditReplayCancel AuditAction = "replay.cancel"
	// AuditDeadDrop deletes dead letters.
	AuditDeadDrop AuditAction = "dead.drop"
	// AuditDeadReveal unseals the query of a dead letter, AuditDeadEdit replaces it.
	AuditDeadReveal AuditAction = "dead.reveal"
	AuditDeadEdit   AuditAction = "dead.edit"
	// AuditDeadReseal seals the queries of dead letters to another key of the workers.
	AuditDeadReseal AuditAction = "dead.reseal"
)

// AuditData is the data of discount.ops.audit.v1 (schemas/ops.audit.v1.json). It must hold no card data, and neither may its texts.
type AuditData struct {
	Action AuditAction `json:"action"`
	// Actor is who did it, as that one's machine says: audit records are as good as the rights of those who may write them.
	Actor string `json:"actor"`
	// Target is what it was done to, an account for example.
	Target string `json:"target"`
	// Reason is the operator's own word for why.
	Reason string `json:"reason,omitzero"`
	// Before and After say what was changed.
	Before string `json:"before,omitzero"`
	After  string `json:"after,omitzero"`
}

// NewAudit returns the event of an audit record. id must be unique.
func NewAudit(id string, at time.Time, data AuditData) Event {
	return Event{
		SpecVersion: "1.0", ID: id, Source: EventSource, Type: TypeAudit, Subject: data.Target, Time: at.UTC(),
		ContentType: "application/json", DataSchema: SchemaURI(TypeAudit), Data: &data,
	}
}

// Audit returns the subject of the audit records of an action.
func (s Subjects) Audit(action AuditAction) string {
	return s.join("audit", string(action))
}
