package ask

import "context"

// ContentTypeKeys is the media type of a JWK Set (RFC 7517, section 8.5.2).
const ContentTypeKeys = "application/jwk-set+json"

// publicKeys replies with the public keys to seal to, the one to use first. What the request holds does not matter: they are for everybody.
func (s *Service) publicKeys(context.Context, message, func(answer)) answer {
	set, err := s.Keys()
	if err != nil {
		return answer{code: Unavailable}
	}
	return answer{code: Answered, event: set, contentType: ContentTypeKeys}
}
