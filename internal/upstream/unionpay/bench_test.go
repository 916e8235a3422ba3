package unionpay

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkSign(b *testing.B) {
	s := setup(b, nil)
	for b.Loop() {
		_, err := s.provider.signer.sign(now(), s.body)
		require.NoError(b, err)
	}
}

func BenchmarkEncrypt(b *testing.B) {
	for _, enc := range []string{EncA128CBCHS256, EncA256GCM} {
		b.Run(enc, func(b *testing.B) {
			s := setup(b, func(o *Options) { o.Encryption.Enc = enc })
			details := question(b).Card
			for b.Loop() {
				_, err := s.provider.data(details)
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkPrepare(b *testing.B) {
	s := setup(b, nil)
	asked := question(b)
	for b.Loop() {
		_, err := s.provider.Prepare(now(), asked)
		require.NoError(b, err)
	}
}

func BenchmarkVerifyAndRead(b *testing.B) {
	s := setup(b, nil)
	response := signed(b, s.answer(b, nil))
	for b.Loop() {
		_, err := s.exchange.Read(response)
		require.NoError(b, err)
	}
}

func BenchmarkRead(b *testing.B) {
	s := setup(b, func(o *Options) { o.VerifyResponse = VerifyOff })
	response := respond(s.answer(b, nil), "")
	for b.Loop() {
		_, err := s.exchange.Read(response)
		require.NoError(b, err)
	}
}

func BenchmarkReference(b *testing.B) {
	s := setup(b, nil)
	for b.Loop() {
		_ = s.provider.sequence.take()
	}
}
