package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// withAccounts returns complete settings with one further account at each provider.
func withAccounts() *Config {
	cfg := complete()
	easy, union := &cfg.Providers.EasyPay, &cfg.Providers.UnionPay
	easy.Accounts = map[string]*EasyPayAccount{"shop": {MallIDs: []string{"05500001"}, Pace: easy.Pace, Concurrency: easy.Concurrency}}
	bank := &UnionPayAccount{
		PIDs: []string{"1234567890"}, SignCertID: union.SignCertID, EncCertID: union.EncCertID, InsCode: union.InsCode, AppID: union.AppID,
		JWS: union.JWS, Response: union.Response, Encryption: union.Encryption, Pace: union.Pace,
		Concurrency: union.Concurrency,
	}
	bank.Response.KeyFiles = maps.Clone(bank.Response.KeyFiles)
	union.Accounts = map[string]*UnionPayAccount{"bank": bank}
	return &cfg
}

const twoAccounts = `
providers:
  easypay:
    mall_id: T5102001
    timeout: 3s
    max_connections: 4
    accounts:
      outlet:
        mall_ids: [05500001, "05500002"]
        pace: {rate: 2/s}
        timeout: 1s
        concurrency: {max: 16}
      shop:
        mall_ids: T5102001
  unionpay:
    ins_code: "00010344"
    jws: {kid: "1", private_key_file: sign.pem, b64_in_header: true}
    response: {key_files: {"7": upi.pem}}
    accounts:
      bank:
        pids: [0123456789]
        ins_code: "00010345"
        jws: {private_key_file: bank.pem}
        tls: {cert_file: bank.crt, key_file: /keys/bank.key}
`

func TestAccountsTakeFromTheProviderWhatTheyLeaveOut(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, twoAccounts, "DISCOUNT_PROVIDERS__EASYPAY__PACE__BURST=3")
	easy := cfg.Providers.EasyPay
	require.Equal(t, map[string]*EasyPayAccount{
		"outlet": {
			MallIDs: []string{"05500001", "05500002"}, Timeout: time.Second, MaxConnections: 4,
			Pace: Pace{Rate: Rate{Calls: 2, Per: time.Second}, Burst: 3}, Concurrency: Concurrency{Min: 4, Max: 16},
		},
		"shop": {MallIDs: []string{"T5102001"}, Timeout: 3 * time.Second, MaxConnections: 4, Pace: easy.Pace, Concurrency: easy.Concurrency},
	}, easy.Accounts)
	bank := cfg.Providers.UnionPay.Account("bank")
	want := cfg.Providers.UnionPay
	want.InsCode, want.JWS.PrivateKeyFile = "00010345", "bank.pem"
	want.TLS = TLS{CertFile: "bank.crt", KeyFile: "/keys/bank.key"}
	require.Equal(t, want, bank, "a false and a true are taken over too")
	require.Equal(t, cfg.Providers.UnionPay, cfg.Providers.UnionPay.Account(DefaultAccount))
	require.Equal(t, cfg.Providers.EasyPay, cfg.Providers.EasyPay.Account(DefaultAccount))
	require.Equal(t, []string{"default", "outlet", "shop"}, easy.AccountNames())
	require.Equal(t, []string{"default", "bank"}, cfg.Providers.UnionPay.AccountNames())
}

func TestPathsOfAccountsAreResolvedOnce(t *testing.T) {
	t.Parallel()
	cfg, err := load("conf/worker.yaml", []byte(twoAccounts), []string{"DISCOUNT_PROVIDERS__UNIONPAY__ACCOUNTS__BANK__ENCRYPTION__PUBLIC_KEY_FILE=/abs/enc.pem"})
	require.NoError(t, err)
	bank := cfg.Providers.UnionPay.Accounts["bank"]
	require.Equal(t, "conf/bank.pem", bank.JWS.PrivateKeyFile)
	require.Equal(t, map[string]string{"7": "conf/upi.pem"}, bank.Response.KeyFiles)
	require.Equal(t, map[string]string{"7": "conf/upi.pem"}, cfg.Providers.UnionPay.Response.KeyFiles)
	require.Equal(t, "conf/bank.crt", bank.TLS.CertFile)
	require.Equal(t, "/keys/bank.key", bank.TLS.KeyFile)
	require.Equal(t, "/abs/enc.pem", bank.Encryption.PublicKeyFile)
}

// TestEveryKeyOfAnAccountIsRead goes through every key an account has: the file and a variable set it, and nothing else changes.
func TestEveryKeyOfAnAccountIsRead(t *testing.T) {
	t.Parallel()
	read := 0
	for at, one := range settings(withAccounts()) {
		if !strings.Contains(one.key, ".accounts.") {
			continue
		}
		read++
		t.Run(one.key, func(t *testing.T) {
			t.Parallel()
			text := other(t, one)
			fromEnvironment, err := Load("", []string{asVariable(one, text)})
			require.NoError(t, err)
			for _, cfg := range []Config{mustLoad(t, asFile(one, text)), fromEnvironment} {
				for _, got := range settings(&cfg) {
					switch {
					case got.key == one.key && one.kind() == table:
						require.Equal(t, map[string]string{"row": text}, got.value.Interface())
					case got.key == one.key && one.kind() == list:
						require.Equal(t, strings.Split(text, ","), got.value.Interface())
					case got.key == one.key:
						require.Equal(t, text, printedText(t, got))
					case strings.Contains(got.key, ".accounts."):
						require.Equal(t, defaultOf(t, got.key), printedText(t, got), got.key)
					}
				}
				require.Len(t, settings(&cfg), len(settings(new(Default())))+membersOf(one.key)-1, at)
			}
		})
	}
	require.Greater(t, read, 20)
}

// membersOf returns how many keys the account of a key has.
func membersOf(key string) int {
	account := key[:strings.Index(key, ".accounts.")+len(".accounts.")]
	count := 0
	for _, one := range settings(withAccounts()) {
		if strings.HasPrefix(one.key, account) {
			count++
		}
	}
	return count
}

// defaultOf returns what an account's key holds if it was not given.
func defaultOf(t *testing.T, key string) string {
	t.Helper()
	parts := strings.Split(key, ".")
	provider := strings.Join(slices.Concat(parts[:2], parts[4:]), ".")
	cfg := Default()
	for _, one := range settings(&cfg) {
		if one.key == provider {
			return printedText(t, one)
		}
	}
	return "[]"
}

func TestAccountsCanBePrintedAndLoaded(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, twoAccounts)
	require.Equal(t, cfg, mustLoad(t, printed(t, cfg)))
	cfg = *withAccounts()
	require.Equal(t, cfg, mustLoad(t, printed(t, cfg)))
	require.Contains(t, printed(t, cfg), "    accounts:\n      shop:\n        mall_ids:\n          - \"05500001\"\n")
	require.Contains(t, printed(t, Default()), "    accounts: {}\n")
}

func TestAccountsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, twoAccounts,
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__OUTLET__MALL_IDS=00000001, 00000002,",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__NEW_ONE__PACE__RATE=7/m",
		"DISCOUNT_PROVIDERS__UNIONPAY__ACCOUNTS__BANK__RESPONSE__KEY_FILES__Kid=/k.pem",
	)
	require.Equal(t, []string{"00000001", "00000002"}, cfg.Providers.EasyPay.Accounts["outlet"].MallIDs)
	require.Equal(t, Rate{Calls: 7, Per: time.Minute}, cfg.Providers.EasyPay.Accounts["new_one"].Pace.Rate)
	require.Equal(t, map[string]string{"Kid": "/k.pem"}, cfg.Providers.UnionPay.Accounts["bank"].Response.KeyFiles)
}

func TestAccountsRefused(t *testing.T) {
	t.Parallel()
	const badName = "must have a name of lower-case letters, digits, - and _, at most 32 long and beginning with a letter"
	for text, want := range map[string]string{
		"{HUNTER2: {}}":                  "worker.yaml:1: providers.easypay.accounts: " + badName,
		"{1a: {}}":                       "worker.yaml:1: providers.easypay.accounts: " + badName,
		"{'*': {}}":                      "worker.yaml:1: providers.easypay.accounts: " + badName,
		"{'a.b': {}}":                    "worker.yaml:1: providers.easypay.accounts: " + badName,
		"{a: {}, a: {}}":                 "worker.yaml:1: providers.easypay.accounts: gives one name twice; keep one",
		"{a: hunter2}":                   "worker.yaml:1: providers.easypay.accounts.a: must be a mapping: one name and value per line, indented below it",
		"hunter2":                        "worker.yaml:1: providers.easypay.accounts: must be a mapping: one name and value per line, indented below it",
		"{a: {mallids: [1]}}":            "worker.yaml:1: providers.easypay.accounts.a.mallids: unknown key; did you mean providers.easypay.accounts.a.mall_ids?",
		"{a: {pace: {rates: 1/s}}}":      "worker.yaml:1: providers.easypay.accounts.a.pace.rates: unknown key; did you mean providers.easypay.accounts.a.pace.rate?",
		"{a: {pace: {rate: hunter2}}}":   "worker.yaml:1: providers.easypay.accounts.a.pace.rate: " + errRate.Error(),
		"{a: {mall_ids: {hunter2: 1}}}":  "worker.yaml:1: providers.easypay.accounts.a.mall_ids: must be a list of single values, such as [a, b]",
		"{a: {mall_ids: [[hunter2]]}}":   "worker.yaml:1: providers.easypay.accounts.a.mall_ids: must be a list of single values, such as [a, b]",
		"{a: {mall_ids: [hunter2, ~]}}":  "worker.yaml:1: providers.easypay.accounts.a.mall_ids: must be a list of single values, such as [a, b]",
		"{a: {enabled: true}}":           "worker.yaml:1: providers.easypay.accounts.a.enabled: unknown key",
		"{a: {mall_ids: !!str hunter2}}": "worker.yaml:1: providers.easypay.accounts.a.mall_ids: has a YAML tag, which is not read here; write the value alone",
	} {
		_, err := fromText("providers: {easypay: {accounts: " + text + "}}")
		got := lines(t, err)
		require.Contains(t, got[0], want, text)
		require.NotContains(t, err.Error(), "unter2", text)
	}
	for variable, want := range map[string]string{
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS=x":             "names a group of keys, not one",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__A=x":          "names a group of keys, not one",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__A__PACE=x":    "names a group of keys, not one",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__A__MALL_ID=x": "did you mean DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__A__MALL_IDS?",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__*__TIMEOUT=x": "unknown variable",
		"DISCOUNT_PROVIDERS__EASYPAY__ACCOUNTS__1__TIMEOUT=x": "unknown variable",
	} {
		_, err := Load("", []string{variable})
		require.Contains(t, lines(t, err)[0], want, variable)
	}
}

func TestValidateAccounts(t *testing.T) {
	t.Parallel()
	easy := func(c *Config) *EasyPayAccount {
		a := &EasyPayAccount{MallIDs: []string{"05500001"}, Pace: c.Providers.EasyPay.Pace, Concurrency: c.Providers.EasyPay.Concurrency}
		c.Providers.EasyPay.Accounts = map[string]*EasyPayAccount{"shop": a}
		return a
	}
	union := func(c *Config) *UnionPayAccount {
		c.Providers.UnionPay.Accounts = withAccounts().Providers.UnionPay.Accounts
		return c.Providers.UnionPay.Accounts["bank"]
	}
	const shop, bank = "providers.easypay.accounts.shop", "providers.unionpay.accounts.bank"
	runCases(t, map[string]validateCase{
		"both":         {func(c *Config) { easy(c); union(c) }, nil},
		"no mall ids":  {func(c *Config) { easy(c).MallIDs = nil }, []string{shop + ".mall_ids"}},
		"no pids":      {func(c *Config) { union(c).PIDs = nil }, []string{bank + ".pids"}},
		"bad mall id":  {func(c *Config) { easy(c).MallIDs = []string{"05500001", "hunter2"} }, []string{shop + ".mall_ids"}},
		"bad pid":      {func(c *Config) { union(c).PIDs = []string{"hunter2"} }, []string{bank + ".pids"}},
		"an id twice":  {func(c *Config) { easy(c).MallIDs = []string{"05500001", "05500001"} }, []string{shop + ".mall_ids"}},
		"a default":    {func(c *Config) { c.Providers.EasyPay.Accounts = map[string]*EasyPayAccount{"default": easy(c)} }, []string{"providers.easypay.accounts.default"}},
		"the mall_id":  {func(c *Config) { c.Providers.EasyPay.MallID = "05500001"; easy(c) }, nil},
		"no pace":      {func(c *Config) { easy(c).Pace = Pace{} }, []string{shop + ".pace.rate", shop + ".pace.burst"}},
		"connections":  {func(c *Config) { union(c).MaxConnections = -1 }, []string{bank + ".max_connections"}},
		"concurrency":  {func(c *Config) { union(c).Concurrency.Max = 3 }, []string{bank + ".concurrency.min"}},
		"timeout":      {func(c *Config) { easy(c).Timeout = time.Millisecond }, []string{shop + ".timeout"}},
		"no ins_code":  {func(c *Config) { union(c).InsCode = "" }, []string{bank + ".ins_code"}},
		"no keys":      {func(c *Config) { union(c).Response.KeyFiles = nil }, []string{bank + ".response.key_files"}},
		"half a pair":  {func(c *Config) { union(c).TLS.CertFile = "c" }, []string{bank + ".tls.cert_file"}},
		"told once":    {func(c *Config) { union(c).InsCode = ""; c.Providers.UnionPay.InsCode = "" }, []string{"providers.unionpay.ins_code"}},
		"slots of all": {func(c *Config) { easy(c); c.Consumer.MaxAckPending = 63 }, []string{"lanes.interactive.slots"}},
		"longest timeout": {func(c *Config) { easy(c).Timeout = 31 * time.Second }, []string{
			"consumer.ack_wait", "shutdown.grace",
		}},
	})
}

func TestOneIDBelongsToOneAccount(t *testing.T) {
	t.Parallel()
	cfg := *withAccounts()
	easy := &cfg.Providers.EasyPay
	easy.Accounts["b"] = &EasyPayAccount{MallIDs: []string{"05500009", "05500001"}, Pace: easy.Pace, Concurrency: easy.Concurrency}
	require.Equal(t, []string{
		"providers.easypay.accounts.shop.mall_ids: holds an id that account b has already; keep number 1 in one place",
	}, lines(t, cfg.Validate()))
	other := *cfg.Providers.UnionPay.Accounts["bank"]
	cfg = *withAccounts()
	cfg.Providers.UnionPay.Accounts["other"] = &other
	require.Equal(t, []string{
		"providers.unionpay.accounts.other.pids: holds an id that account bank has already; keep number 1 in one place",
	}, lines(t, cfg.Validate()))
}

func TestBadNamesOfAccounts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "A", "a.b", "*", "a b", strings.Repeat("a", 33), "-a"} {
		cfg := Default()
		easy := &cfg.Providers.EasyPay
		easy.Accounts = map[string]*EasyPayAccount{name: {MallIDs: []string{"05500001"}, Pace: easy.Pace, Concurrency: easy.Concurrency}}
		require.Equal(t, []string{"providers.easypay.accounts." + name + ": " + badAccountName}, lines(t, cfg.Validate()))
	}
}
