package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"discountquery.example/worker/internal/card"
)

// PublicKeys requests the workers' public keys as a JWK Set. The one to seal to stands first. ErrNoResult means that no reply came until ctx
// ended.
func (c *Client) PublicKeys(ctx context.Context) ([]byte, error) {
	reply, err := c.Conn.RequestWithContext(ctx, c.Subjects.Keys(), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("get keys: nobody serves %s on this broker: %w", c.Subjects.Keys(), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("get keys: no reply in time: %w", ErrNoResult)
	case err != nil:
		return nil, fmt.Errorf("get keys: %w", err)
	}
	if refusal := readRefusal(reply.Header); refusal != nil {
		return nil, fmt.Errorf("get keys: %w", refusal)
	}
	return reply.Data, nil
}

// FetchSealer requests the workers' public keys and returns a sealer to the one to use now, of those that Pins name if there are any.
// card.ErrNotPinned means that none of them was served. A sealer is worth keeping for minutes, not for ever: keys are rotated.
func (c *Client) FetchSealer(ctx context.Context) (*card.Sealer, error) {
	set, err := c.PublicKeys(ctx)
	if err != nil {
		return nil, err
	}
	return card.ReadSet(set, c.Pins...)
}
