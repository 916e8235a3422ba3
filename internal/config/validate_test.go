package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// complete returns settings with both providers on and everything they need.
func complete() Config {
	cfg := Default()
	p := &cfg.Providers.UnionPay
	p.Enabled = true
	p.BaseURL, p.Path = "https://upi.example", "/scis/v1/usage"
	p.ProcType, p.SignCertID, p.EncCertID, p.InsCode, p.AppID = "01", "001", "002", "00010344", "00520446"
	p.JWS = JWS{KID: "1555570302", PrivateKeyFile: "sign.pem"}
	p.Response.KeyFiles = map[string]string{"1555570303": "upi.pem"}
	p.Encryption.KID, p.Encryption.PublicKeyFile = "20190411000000", "enc.pem"
	return cfg
}

// validateCase is one change of complete settings and the keys that are then wrong.
type validateCase struct {
	change func(*Config)
	want   []string
}

// runCases checks each case, that every problem names a known key, and that none repeats a value.
func runCases(t *testing.T, cases map[string]validateCase) {
	t.Helper()
	reference := Default()
	known := newSchema(settings(&reference))
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := complete()
			test.change(&cfg)
			err := cfg.Validate()
			if len(test.want) == 0 {
				require.NoError(t, err)
				return
			}
			problems, ok := errors.AsType[Problems](err)
			require.True(t, ok, "got %v", err)
			var keys []string
			for _, problem := range problems {
				keys = append(keys, problem.Key)
				row := problem.Key[:strings.LastIndexByte("."+problem.Key, '.')]
				require.True(t, known.kind(problem.Key) != unknown || known.kind(strings.TrimSuffix(row, ".")) == table, problem.Key)
				require.NotEmpty(t, problem.Text)
				require.NotContains(t, problem.String(), "hunter2")
			}
			require.Equal(t, test.want, keys, err.Error())
		})
	}
}

func TestValidateAcceptsCompleteSettings(t *testing.T) {
	t.Parallel()
	require.NoError(t, complete().Validate())
	require.NoError(t, Default().Validate())
}

func TestValidateBroker(t *testing.T) {
	t.Parallel()
	runCases(t, map[string]validateCase{
		"prefix dots":      {func(c *Config) { c.Prefix = "a.b" }, []string{"prefix"}},
		"prefix wildcard":  {func(c *Config) { c.Prefix = "*" }, []string{"prefix"}},
		"prefix empty":     {func(c *Config) { c.Prefix = "" }, []string{"prefix"}},
		"prefix case":      {func(c *Config) { c.Prefix = "Discount" }, []string{"prefix"}},
		"prefix long":      {func(c *Config) { c.Prefix = strings.Repeat("a", 33) }, []string{"prefix"}},
		"remote server":    {func(c *Config) { c.NATS.URL = "nats://a:4222, tls://b:4222" }, nil},
		"websocket":        {func(c *Config) { c.NATS.URL = "wss://a" }, nil},
		"no scheme":        {func(c *Config) { c.NATS.URL = "hunter2:4222" }, []string{"nats.url"}},
		"wrong scheme":     {func(c *Config) { c.NATS.URL = "https://hunter2" }, []string{"nats.url"}},
		"trailing comma":   {func(c *Config) { c.NATS.URL = "nats://hunter2," }, []string{"nats.url"}},
		"broken address":   {func(c *Config) { c.NATS.URL = "nats://u:hunter2@h:x" }, []string{"nats.url"}},
		"name":             {func(c *Config) { c.NATS.Name = "" }, []string{"nats.name"}},
		"inbox":            {func(c *Config) { c.NATS.InboxPrefix = "_INBOX_worker.a" }, nil},
		"inbox wildcard":   {func(c *Config) { c.NATS.InboxPrefix = "a.>" }, []string{"nats.inbox_prefix"}},
		"connect timeout":  {func(c *Config) { c.NATS.ConnectTimeout = 0 }, []string{"nats.connect_timeout"}},
		"request timeout":  {func(c *Config) { c.NATS.RequestTimeout = time.Hour }, []string{"nats.request_timeout"}},
		"password alone":   {func(c *Config) { c.NATS.URL, c.NATS.PasswordFile = "nats://a", "p" }, []string{"nats.user"}},
		"user":             {func(c *Config) { c.NATS.URL, c.NATS.User, c.NATS.PasswordFile = "nats://a", "u", "p" }, nil},
		"two logins":       {func(c *Config) { c.NATS.URL, c.NATS.NKeyFile, c.NATS.CredentialsFile = "nats://a", "n", "c" }, []string{"nats.credentials_file"}},
		"certificate only": {func(c *Config) { c.NATS.URL, c.NATS.TLS.CertFile = "tls://a", "c" }, []string{"nats.tls.cert_file"}},
		"login without":    {func(c *Config) { c.NATS.NKeyFile = "n" }, []string{"nats.url"}},
		"tls without":      {func(c *Config) { c.NATS.TLS.HandshakeFirst = true }, []string{"nats.url"}},
		"no folder":        {func(c *Config) { c.DataDir = "" }, []string{"data_dir"}},
		"no folder needed": {func(c *Config) { c.DataDir, c.NATS.URL = "", "nats://a" }, nil},
		"in process only":  {func(c *Config) { c.Embedded.Listen = "" }, nil},
		"any port":         {func(c *Config) { c.Embedded.Listen = "[::1]:0" }, nil},
		"open to all":      {func(c *Config) { c.Embedded.Listen = "0.0.0.0:4222" }, []string{"embedded.listen"}},
		"open to all too":  {func(c *Config) { c.Embedded.Listen = ":4222" }, []string{"embedded.listen"}},
		"no port":          {func(c *Config) { c.Embedded.Listen = "127.0.0.1" }, []string{"embedded.listen"}},
		"no such port":     {func(c *Config) { c.Embedded.Listen = "127.0.0.1:65536" }, []string{"embedded.listen"}},
		"store too small":  {func(c *Config) { c.Embedded.MaxStore = 12 * gib }, []string{"embedded.max_store"}},
		"store by server":  {func(c *Config) { c.Embedded.MaxStore = 0 }, nil},
		"store negative":   {func(c *Config) { c.NATS.URL, c.Embedded.MaxStore = "nats://a", -1 }, []string{"embedded.max_store"}},
		"three embedded":   {func(c *Config) { c.Streams.Replicas = 3 }, []string{"streams.replicas"}},
		"three":            {func(c *Config) { c.NATS.URL, c.Streams.Replicas = "nats://a", 3 }, nil},
		"two":              {func(c *Config) { c.NATS.URL, c.Streams.Replicas = "nats://a", 2 }, []string{"streams.replicas"}},
		"no limits": {func(c *Config) {
			c.Streams.Queries.MaxBytes, c.Streams.Results.MaxBytes, c.Streams.Dead.MaxBytes = 0, 0, 0
		}, nil},
		"sums that overflow": {func(c *Config) { c.Streams.Queries.MaxBytes, c.Streams.Dead.MaxBytes = math.MaxInt64, math.MaxInt64 }, []string{"streams.queries.max_bytes", "streams.dead.max_bytes"}},
		"small messages":     {func(c *Config) { c.Streams.Queries.MaxMsgSize = 9 * kib }, []string{"streams.queries.max_msg_size"}},
		"huge messages":      {func(c *Config) { c.Streams.Queries.MaxMsgSize = gib }, []string{"streams.queries.max_msg_size"}},
		"results forgotten":  {func(c *Config) { c.Streams.Results.MaxAge = 24 * time.Hour }, []string{"streams.results.max_age"}},
		"dead forgotten":     {func(c *Config) { c.Streams.Dead.MaxAge = 0 }, []string{"streams.dead.max_age"}},
		"advisories":         {func(c *Config) { c.Streams.Advisories.MaxAge = -1 }, []string{"streams.advisories.max_age"}},
	})
}

func TestValidateWork(t *testing.T) {
	t.Parallel()
	runCases(t, map[string]validateCase{
		"no slots":        {func(c *Config) { c.Lanes.Bulk.Slots = 0 }, []string{"lanes.bulk.slots"}},
		"slots over":      {func(c *Config) { c.Lanes.Interactive.Slots, c.Consumer.MaxAckPending = 33, 32 }, []string{"lanes.interactive.slots"}},
		"share":           {func(c *Config) { c.Lanes.Bulk.Share = 0.51 }, []string{"lanes.bulk.share"}},
		"no share":        {func(c *Config) { c.Lanes.Bulk.Share = 0 }, []string{"lanes.bulk.share"}},
		"share of NaN":    {func(c *Config) { c.Lanes.Bulk.Share = math.NaN() }, []string{"lanes.bulk.share"}},
		"largest share":   {func(c *Config) { c.Lanes.Bulk.Share = 0.5 }, nil},
		"horizon":         {func(c *Config) { c.Lanes.Interactive.Horizon = 8 * time.Second }, []string{"lanes.interactive.horizon"}},
		"ack wait":        {func(c *Config) { c.Consumer.AckWait = 5 * time.Second }, []string{"consumer.ack_wait"}},
		"slow provider":   {func(c *Config) { c.Providers.UnionPay.Timeout = 30 * time.Second }, []string{"consumer.ack_wait", "shutdown.grace"}},
		"slow but off":    {func(c *Config) { c.Providers.UnionPay.Enabled, c.Providers.UnionPay.Timeout = false, 30*time.Second }, nil},
		"fast provider":   {func(c *Config) { c.Providers.UnionPay.Timeout = time.Second }, nil},
		"pending":         {func(c *Config) { c.Consumer.MaxAckPending = 100_001 }, []string{"consumer.max_ack_pending"}},
		"quarantine":      {func(c *Config) { c.Consumer.QuarantineAfter = 0 }, []string{"consumer.quarantine_after"}},
		"deliver":         {func(c *Config) { c.Consumer.MaxDeliver = 3 }, []string{"consumer.max_deliver"}},
		"pull":            {func(c *Config) { c.Consumer.PullExpiry = time.Second }, []string{"consumer.pull_expiry"}},
		"long pull":       {func(c *Config) { c.Consumer.PullExpiry = 13 * time.Second }, []string{"consumer.pull_expiry"}},
		"grace":           {func(c *Config) { c.Shutdown.Grace = 5 * time.Second }, []string{"shutdown.grace"}},
		"long grace":      {func(c *Config) { c.Shutdown.Grace = time.Hour }, []string{"shutdown.grace"}},
		"keys":            {func(c *Config) { c.Cards.KeysDir = "" }, []string{"cards.keys_dir"}},
		"sealed":          {func(c *Config) { c.Cards.MaxSealedBytes = 9 * kib }, []string{"cards.max_sealed_bytes"}},
		"no admin":        {func(c *Config) { c.Admin.Listen = "" }, nil},
		"admin for all":   {func(c *Config) { c.Admin.Listen = ":8090" }, nil},
		"admin":           {func(c *Config) { c.Admin.Listen = "8090" }, []string{"admin.listen"}},
		"level":           {func(c *Config) { c.Log.Level = "hunter2" }, []string{"log.level"}},
		"format":          {func(c *Config) { c.Log.Format = "text" }, []string{"log.format"}},
		"agent":           {func(c *Config) { c.HTTP.UserAgent = "a\nhunter2" }, []string{"http.user_agent"}},
		"no agent":        {func(c *Config) { c.HTTP.UserAgent = "" }, []string{"http.user_agent"}},
		"no attempt":      {func(c *Config) { c.HTTP.AttemptTimeout = 0 }, []string{"http.attempt_timeout", "http.dial_timeout", "http.tls_handshake_timeout"}},
		"dial":            {func(c *Config) { c.HTTP.DialTimeout = 6 * time.Second }, []string{"http.dial_timeout"}},
		"handshake":       {func(c *Config) { c.HTTP.TLSHandshakeTimeout = 6 * time.Second }, []string{"http.tls_handshake_timeout"}},
		"recycle":         {func(c *Config) { c.HTTP.RecycleConnections = 0 }, []string{"http.recycle_connections"}},
		"body":            {func(c *Config) { c.HTTP.MaxResponseBytes = 17 * mib }, []string{"http.max_response_bytes"}},
		"attempts":        {func(c *Config) { c.Retry.MaxAttempts = 0 }, []string{"retry.max_attempts"}},
		"interval":        {func(c *Config) { c.Retry.InitialInterval = 0 }, []string{"retry.initial_interval"}},
		"max interval":    {func(c *Config) { c.Retry.MaxInterval = 100 * time.Millisecond }, []string{"retry.max_interval"}},
		"multiplier":      {func(c *Config) { c.Retry.Multiplier = 0.5 }, []string{"retry.multiplier"}},
		"not a number":    {func(c *Config) { c.Retry.Multiplier, c.Retry.Jitter = math.NaN(), math.NaN() }, []string{"retry.multiplier", "retry.jitter"}},
		"jitter":          {func(c *Config) { c.Retry.Jitter = 1.1 }, []string{"retry.jitter"}},
		"budget":          {func(c *Config) { c.Retry.Budget = time.Millisecond }, []string{"retry.budget"}},
		"long budget":     {func(c *Config) { c.Retry.Budget = 61 * time.Second }, []string{"retry.budget"}},
		"schedule":        {func(c *Config) { c.Retry.Schedule.First = 0 }, []string{"retry.schedule.first"}},
		"schedule max":    {func(c *Config) { c.Retry.Schedule.Max = time.Second }, []string{"retry.schedule.max"}},
		"nobody to ask":   {func(c *Config) { c.Providers.EasyPay.Enabled, c.Providers.UnionPay.Enabled = false, false }, []string{"providers"}},
		"all at once too": {func(c *Config) { c.Prefix, c.Log.Level, c.Retry.Jitter = "", "", -1 }, []string{"prefix", "retry.jitter", "log.level"}},
	})
}

func TestValidateEasyPay(t *testing.T) {
	t.Parallel()
	easypay := func(change func(*EasyPay)) func(*Config) {
		return func(c *Config) { change(&c.Providers.EasyPay) }
	}
	runCases(t, map[string]validateCase{
		"variant":        {easypay(func(p *EasyPay) { p.Variant = "new" }), []string{"providers.easypay.variant"}},
		"legacy":         {easypay(func(p *EasyPay) { p.Variant, p.BaseURL = "legacy", "https://testpg.easypay.co.kr" }), nil},
		"legacy host":    {easypay(func(p *EasyPay) { p.Variant = "legacy" }), []string{"providers.easypay.base_url"}},
		"sandbox":        {easypay(func(p *EasyPay) { p.BaseURL = "http://127.0.0.1:8091" }), nil},
		"sandbox name":   {easypay(func(p *EasyPay) { p.BaseURL = "http://localhost:8091/" }), nil},
		"sandbox v6":     {easypay(func(p *EasyPay) { p.BaseURL = "http://[::1]:8091" }), nil},
		"in the clear":   {easypay(func(p *EasyPay) { p.BaseURL = "http://pgapi.easypay.co.kr" }), []string{"providers.easypay.base_url"}},
		"almost local":   {easypay(func(p *EasyPay) { p.BaseURL = "http://localhost.hunter2.example" }), []string{"providers.easypay.base_url"}},
		"no address":     {easypay(func(p *EasyPay) { p.BaseURL = "" }), []string{"providers.easypay.base_url"}},
		"no scheme":      {easypay(func(p *EasyPay) { p.BaseURL = "pgapi.easypay.co.kr" }), []string{"providers.easypay.base_url"}},
		"password":       {easypay(func(p *EasyPay) { p.BaseURL = "https://u:hunter2@h" }), []string{"providers.easypay.base_url"}},
		"query":          {easypay(func(p *EasyPay) { p.BaseURL = "https://h?a=hunter2" }), []string{"providers.easypay.base_url"}},
		"path in base":   {easypay(func(p *EasyPay) { p.BaseURL = "https://h/api" }), []string{"providers.easypay.base_url"}},
		"path":           {easypay(func(p *EasyPay) { p.Path = "api" }), []string{"providers.easypay.path"}},
		"path query":     {easypay(func(p *EasyPay) { p.Path = "/api?mall_id=1" }), []string{"providers.easypay.path"}},
		"mall":           {easypay(func(p *EasyPay) { p.MallID = "T510200" }), []string{"providers.easypay.mall_id"}},
		"mall given":     {easypay(func(p *EasyPay) { p.MallID = "T5102001" }), nil},
		"amount":         {easypay(func(p *EasyPay) { p.AmountAs = "float" }), []string{"providers.easypay.amount_as"}},
		"charset":        {easypay(func(p *EasyPay) { p.Charset = "latin1" }), []string{"providers.easypay.charset"}},
		"percent":        {easypay(func(p *EasyPay) { p.NearlyExhausted = "100.5" }), []string{"providers.easypay.nearly_exhausted"}},
		"percent exact":  {easypay(func(p *EasyPay) { p.NearlyExhausted = "99.55" }), nil},
		"percent empty":  {easypay(func(p *EasyPay) { p.NearlyExhausted = "" }), []string{"providers.easypay.nearly_exhausted"}},
		"class":          {easypay(func(p *EasyPay) { p.Codes = map[string]string{"VT00": "hunter2", "R102": "empty"} }), []string{"providers.easypay.codes.VT00"}},
		"code":           {easypay(func(p *EasyPay) { p.Codes = map[string]string{"hunter2 ": "ok"} }), []string{"providers.easypay.codes"}},
		"timeout":        {easypay(func(p *EasyPay) { p.Timeout = time.Millisecond }), []string{"providers.easypay.timeout"}},
		"connections":    {easypay(func(p *EasyPay) { p.MaxConnections = -1 }), []string{"providers.easypay.max_connections"}},
		"no floor":       {easypay(func(p *EasyPay) { p.Concurrency.Min = 0 }), []string{"providers.easypay.concurrency.min"}},
		"floor too high": {easypay(func(p *EasyPay) { p.Concurrency.Min = 257 }), []string{"providers.easypay.concurrency.min"}},
		"floor as roof":  {easypay(func(p *EasyPay) { p.Concurrency.Min = 256 }), nil},
		"no ceiling":     {easypay(func(p *EasyPay) { p.Concurrency.Max = 0 }), nil},
		"rate":           {easypay(func(p *EasyPay) { p.Pace.Rate = Rate{} }), []string{"providers.easypay.pace.rate"}},
		"burst":          {easypay(func(p *EasyPay) { p.Pace.Burst = 0 }), []string{"providers.easypay.pace.burst"}},
		"certificate":    {easypay(func(p *EasyPay) { p.TLS.KeyFile = "k" }), []string{"providers.easypay.tls.cert_file"}},
		"off needs less": {easypay(func(p *EasyPay) { p.Enabled, p.BaseURL = false, "" }), nil},
		"off but wrong":  {easypay(func(p *EasyPay) { p.Enabled, p.Charset = false, "" }), []string{"providers.easypay.charset"}},
	})
}

func TestValidateUnionPay(t *testing.T) {
	t.Parallel()
	unionpay := func(change func(*UnionPay)) func(*Config) {
		return func(c *Config) { change(&c.Providers.UnionPay) }
	}
	const key = "providers.unionpay."
	runCases(t, map[string]validateCase{
		"needs everything": {func(c *Config) { c.Providers.UnionPay = defaultUnionPay(); c.Providers.UnionPay.Enabled = true }, []string{
			key + "base_url", key + "path", key + "proc_type", key + "sign_cert_id", key + "enc_cert_id", key + "ins_code", key + "app_id",
			key + "jws.kid", key + "jws.private_key_file", key + "encryption.kid", key + "encryption.public_key_file", key + "response.key_files",
		}},
		"no encryption":    {unionpay(func(p *UnionPay) { p.Encryption = Encryption{Mode: "off", Alg: "RSA1_5", Enc: "A256GCM"} }), nil},
		"unsigned":         {unionpay(func(p *UnionPay) { p.Response = Response{Verify: "off"} }), nil},
		"signed sometimes": {unionpay(func(p *UnionPay) { p.Response = Response{Verify: "if_present"} }), []string{key + "response.key_files"}},
		"key without file": {unionpay(func(p *UnionPay) { p.Response.KeyFiles = map[string]string{"1": ""} }), []string{key + "response.key_files"}},
		"key without id":   {unionpay(func(p *UnionPay) { p.Response.KeyFiles = map[string]string{"": "a.pem"} }), []string{key + "response.key_files"}},
		"verify":           {unionpay(func(p *UnionPay) { p.Response.Verify = "maybe" }), []string{key + "response.verify"}},
		"mode":             {unionpay(func(p *UnionPay) { p.Encryption.Mode = "" }), []string{key + "encryption.mode"}},
		"alg":              {unionpay(func(p *UnionPay) { p.Encryption.Alg = "RSA-OAEP" }), []string{key + "encryption.alg"}},
		"enc":              {unionpay(func(p *UnionPay) { p.Encryption.Enc = "A192GCM" }), []string{key + "encryption.enc"}},
		"path":             {unionpay(func(p *UnionPay) { p.Path = "scis" }), []string{key + "path"}},
		"signed path":      {unionpay(func(p *UnionPay) { p.ReqPath = "/a?b" }), []string{key + "req_path"}},
		"proc type":        {unionpay(func(p *UnionPay) { p.ProcType = "1" }), []string{key + "proc_type"}},
		"sign cert":        {unionpay(func(p *UnionPay) { p.SignCertID = "0001" }), []string{key + "sign_cert_id"}},
		"enc cert":         {unionpay(func(p *UnionPay) { p.EncCertID = "a-b" }), []string{key + "enc_cert_id"}},
		"institution":      {unionpay(func(p *UnionPay) { p.InsCode = "123456789012" }), []string{key + "ins_code"}},
		"programme":        {unionpay(func(p *UnionPay) { p.PID = "12a" }), []string{key + "pid"}},
		"scenario":         {unionpay(func(p *UnionPay) { p.ScenID = "12345" }), []string{key + "scen_id"}},
		"reserved":         {unionpay(func(p *UnionPay) { p.ResvFld = strings.Repeat("a", 501) }), []string{key + "resv_fld"}},
		"app":              {unionpay(func(p *UnionPay) { p.AppID = "a b" }), []string{key + "app_id"}},
		"zone":             {unionpay(func(p *UnionPay) { p.TimeZone = "Asia/Shanghai" }), []string{key + "time_zone"}},
		"zone utc":         {unionpay(func(p *UnionPay) { p.TimeZone = "UTC-03:30" }), nil},
		"unit":             {unionpay(func(p *UnionPay) { p.AmountUnit = "cents" }), []string{key + "amount_unit"}},
		"class":            {unionpay(func(p *UnionPay) { p.Codes = map[string]string{"10": "none"} }), []string{key + "codes.10"}},
		"timeout":          {unionpay(func(p *UnionPay) { p.Timeout = -1 }), []string{key + "timeout"}},
		"connections":      {unionpay(func(p *UnionPay) { p.MaxConnections = 10_001 }), []string{key + "max_connections"}},
		"ceiling too high": {unionpay(func(p *UnionPay) { p.Concurrency.Max = 10_001 }), []string{key + "concurrency.max"}},
		"in the clear":     {unionpay(func(p *UnionPay) { p.BaseURL = "http://10.0.0.1" }), []string{key + "base_url"}},
		"ftp":              {unionpay(func(p *UnionPay) { p.BaseURL = "ftp://h" }), []string{key + "base_url"}},
	})
}

// Whatever is set, Validate answers and Print writes something that loads to the same settings.
func TestAnySettings(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := complete()
		all := settings(&cfg)
		for range 3 {
			one := rapid.SampledFrom(all).Draw(t, "setting")
			_ = one.set(rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"true", "false", "7", "1.5", "3s", "4KiB", "9/m", "null", "~", "0x1", "- a", "{"}), rapid.String()).Draw(t, "text"))
		}
		_ = cfg.Validate()
		cfg.NATS.URL, cfg.Providers.EasyPay.BaseURL, cfg.Providers.UnionPay.BaseURL = "", "", ""
		var out strings.Builder
		require.NoError(t, cfg.Print(&out))
		again, err := fromText(out.String())
		require.NoError(t, err, out.String())
		require.Equal(t, cfg.Lanes, again.Lanes)
	})
}
