package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
)

// instruction is one instruction of a Dockerfile.
type instruction struct{ name, argument string }

// stages returns the instructions of each stage of a Dockerfile, the line of FROM first.
func stages(text string) [][]instruction {
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(text, "")
	var all [][]instruction
	for line := range strings.Lines(joined) {
		name, argument, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "FROM" {
			all = append(all, nil)
		}
		last := len(all) - 1
		all[last] = append(all[last], instruction{name, strings.TrimSpace(argument)})
	}
	return all
}

// configured returns what the instructions of a stage say of the image's configuration, with values for its arguments.
func configured(stage []instruction, arguments map[string]string) (v1.Config, error) {
	var c v1.Config
	declared := make(map[string]bool)
	for _, one := range stage {
		value := os.Expand(one.argument, func(name string) string {
			if !declared[name] {
				return "undeclared"
			}
			return arguments[name]
		})
		var err error
		switch one.name {
		case "FROM", "COPY":
		case "ARG":
			declared[one.argument] = true
		case "USER":
			c.User = value
		case "WORKDIR":
			c.WorkingDir = value
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(value), &c.Entrypoint)
		case "CMD":
			err = json.Unmarshal([]byte(value), &c.Cmd)
		case "ENV":
			c.Env = append(c.Env, strings.ReplaceAll(value, `"`, ""))
		case "LABEL":
			name, text, _ := strings.Cut(value, "=")
			if c.Labels == nil {
				c.Labels = make(map[string]string)
			}
			c.Labels[name] = strings.Trim(text, `"`)
		default:
			err = fmt.Errorf("%s is nothing that the other image has", one.name)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func readDockerfile(t *testing.T) [][]instruction {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	found := stages(string(text))
	require.Len(t, found, 2)
	return found
}

func TestDockerfileConfiguresTheSameImage(t *testing.T) {
	t.Parallel()
	last := readDockerfile(t)[1]
	require.Equal(t, instruction{"FROM", "scratch"}, last[0])
	require.Contains(t, last, instruction{"COPY", "--from=build /image/ /"}, "one copy, of what the first stage made")
	require.Len(t, slices.DeleteFunc(slices.Clone(last), func(i instruction) bool { return i.name != "COPY" }), 1)
	got, err := configured(last, map[string]string{"VERSION": testVersion, "REVISION": testRevision, "CREATED": testCreated})
	require.NoError(t, err)
	require.Equal(t, config(testOrigin()), got)
}

func TestDockerfileBuildsWithTheSameFlags(t *testing.T) {
	t.Parallel()
	first := readDockerfile(t)[0]
	modules, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(modules)
	require.Len(t, version, 2)
	require.Equal(t, instruction{"FROM", "--platform=$BUILDPLATFORM golang:" + string(version[1]) + " AS build"}, first[0], "Go as go.mod asks for it")
	require.Contains(t, first, instruction{"RUN", "cd tools/image && go run ./basefiles -o /image"})

	want := append(buildEnvironment(v1.Platform{OS: "$TARGETOS", Architecture: "$TARGETARCH"}), "go", "build", "-o", "/image/"+programPath)
	for _, flag := range buildFlags("$VERSION") {
		if name, value, found := strings.Cut(flag, "="); found && strings.Contains(value, " ") {
			flag = name + `="` + value + `"`
		}
		want = append(want, flag)
	}
	want = append(want, "./cmd/worker")
	require.Contains(t, first, instruction{"RUN", strings.Join(want, " ")})
}

func TestDockerfileGetsWhatItCopies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	require.NoError(t, err)
	var sent []string
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "!"); found {
			sent = append(sent, name)
		}
	}
	require.Contains(t, string(text), "\n*\n", "nothing is sent that is not named")
	var copied []string
	for _, one := range readDockerfile(t)[0] {
		if one.name == "COPY" {
			words := strings.Fields(one.argument)
			for _, name := range words[:len(words)-1] {
				copied = append(copied, strings.TrimSuffix(name, "/"))
			}
		}
	}
	require.ElementsMatch(t, copied, sent)
	for _, name := range copied {
		_, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
	}
}

func TestDifferencesOfADockerfileAreSeen(t *testing.T) {
	t.Parallel()
	text := "FROM scratch\nUSER 65532:65532\nENV PATH=\"/\"\nCMD [\"run\",\\\n  \"-c\"]\nARG V\nLABEL a=\"$V\"\n"
	right, err := configured(stages(text)[0], map[string]string{"V": "1"})
	require.NoError(t, err)
	require.Equal(t, v1.Config{
		User: "65532:65532", Env: []string{"PATH=/"}, Cmd: []string{"run", "-c"}, Labels: map[string]string{"a": "1"},
	}, right)
	for name, text := range map[string]string{
		"another instruction":   "FROM scratch\nHEALTHCHECK CMD true",
		"a shell's command":     "FROM scratch\nCMD run -c x",
		"a shell's entry point": "FROM scratch\nENTRYPOINT /worker",
		"an open port":          "FROM scratch\nEXPOSE 8090",
	} {
		_, err := configured(stages(text)[0], nil)
		require.Error(t, err, name)
	}
	undeclared, err := configured(stages("FROM scratch\nLABEL a=\"$V\"\nARG V")[0], map[string]string{"V": "1"})
	require.NoError(t, err)
	require.Equal(t, "undeclared", undeclared.Labels["a"])
}
