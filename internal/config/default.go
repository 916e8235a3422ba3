package config

import "time"

// Binary units of Size.
const (
	kib = Size(1) << 10
	mib = Size(1) << 20
	gib = Size(1) << 30
	tib = Size(1) << 40
)

// Default returns the settings that hold where neither the file nor the environment says otherwise: one machine, the embedded
// server, EasyPay's test host.
func Default() Config {
	return Config{
		DataDir: "data",
		Prefix:  "discount",
		NATS: NATS{
			Name:           "discount-worker",
			ConnectTimeout: 5 * time.Second,
			RequestTimeout: 5 * time.Second,
		},
		Embedded: Embedded{Listen: "127.0.0.1:4222", SyncAlways: true, MaxStore: 16 * gib},
		Streams:  defaultStreams(),
		Lanes: Lanes{
			Interactive: Lane{Slots: 32, Horizon: 15 * time.Minute},
			Bulk:        BulkLane{Lane: Lane{Slots: 16, Horizon: 24 * time.Hour}, Share: 0.1},
		},
		Clients: []string{},
		Ask:     Ask{Slots: 64, Timeout: 3 * time.Second, MaxTimeout: 10 * time.Second, InboxPrefix: "_INBOX"},
		Consumer: Consumer{
			AckWait:         30 * time.Second,
			MaxAckPending:   2000,
			MaxDeliver:      20,
			QuarantineAfter: 3,
			PullExpiry:      2 * time.Second,
		},
		Shutdown:  Shutdown{Grace: 25 * time.Second},
		Cards:     Cards{KeysDir: "keys", MaxSealedBytes: 8 * kib},
		Admin:     Admin{Listen: "127.0.0.1:8090"},
		Log:       Log{Level: "info", Format: "json"},
		HTTP:      defaultHTTP(),
		Retry:     defaultRetry(),
		Breaker:   Breaker{MinCalls: 20, FailureRatio: 0.5, Window: 10 * time.Second, OpenFor: 10 * time.Second},
		Providers: Providers{EasyPay: defaultEasyPay(), UnionPay: defaultUnionPay()},
	}
}

// defaultStreams fits into the embedded server's store with room to spare for buckets and advisories.
func defaultStreams() Streams {
	return Streams{
		Replicas:   1,
		Queries:    QueryStream{MaxBytes: gib, MaxMsgSize: 64 * kib},
		Results:    KeptStream{MaxAge: 7 * 24 * time.Hour, MaxBytes: 10 * gib},
		Dead:       KeptStream{MaxAge: 30 * 24 * time.Hour, MaxBytes: gib},
		Advisories: AdvisoryStream{MaxAge: 30 * 24 * time.Hour},
	}
}

func defaultHTTP() HTTP {
	return HTTP{
		UserAgent:           "discount-worker",
		AttemptTimeout:      5 * time.Second,
		DialTimeout:         3 * time.Second,
		TLSHandshakeTimeout: 3 * time.Second,
		RecycleConnections:  time.Minute,
		MaxResponseBytes:    256 * kib,
	}
}

func defaultRetry() Retry {
	return Retry{
		MaxAttempts:     3,
		InitialInterval: 200 * time.Millisecond,
		MaxInterval:     time.Second,
		Multiplier:      2,
		Jitter:          0.5,
		Budget:          3 * time.Second,
		Share:           0.1,
		Reserve:         10,
		Schedule:        Schedule{First: 5 * time.Second, Max: 5 * time.Minute},
	}
}

// defaultEasyPay paces conservatively, because KICC publishes no limit.
func defaultEasyPay() EasyPay {
	return EasyPay{
		Enabled:         true,
		Variant:         "current",
		BaseURL:         "https://testpgapi.easypay.co.kr",
		AmountAs:        "number",
		Charset:         "auto",
		RequireCard:     true,
		NearlyExhausted: "95",
		Pace:            Pace{Rate: Rate{Calls: 10, Per: time.Second}, Burst: 10},
		Concurrency:     Concurrency{Min: 4, Max: 256},
	}
}

// defaultUnionPay holds the family's documented envelope. It paces conservatively, because UnionPay publishes no limit.
func defaultUnionPay() UnionPay {
	return UnionPay{
		TimeZone:    "GMT+08:00",
		AmountUnit:  "major",
		Response:    Response{Verify: "required"},
		Encryption:  Encryption{Mode: "jwe", Alg: "RSA1_5", Enc: "A128CBC-HS256"},
		Pace:        Pace{Rate: Rate{Calls: 5, Per: time.Second}, Burst: 5},
		Concurrency: Concurrency{Min: 4, Max: 256},
	}
}
