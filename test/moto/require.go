package moto

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"credential-rotator/test/loud"
)

// requireAll is the environment variable that makes a missing tool a failure. CI sets it.
const requireAll = "CREDENTIAL_ROTATOR_REQUIRE_ALL"

// Require returns the path of a tool that the test cannot do without, and otherwise
// skips the test and says what is left out; with CREDENTIAL_ROTATOR_REQUIRE_ALL=1 it
// fails it. For moto_server it is the path of the Python that has moto and its server.
func Require(t testing.TB, tool string) string {
	t.Helper()
	path := look(t.Context(), tool)
	if path != "" {
		return path
	}
	why := fmt.Sprintf("%s needs %s; %s (%s=1 makes this a failure)", t.Name(), tool, install(tool), requireAll)
	if os.Getenv(requireAll) == "1" {
		t.Fatal(why)
	}
	loud.Say("LEFT OUT: %s", why)
	t.Skip(why)
	return ""
}

func install(tool string) string {
	switch tool {
	case "moto_server":
		return "to include it: pip install 'moto[server]'"
	case "gitlab-ci-local", "rsync":
		return "to include it: export PATH=$(scripts/tools):$PATH"
	}
	return "to include it: install that"
}

func look(ctx context.Context, tool string) string {
	if tool == "moto_server" {
		return python(ctx)
	}
	path, err := exec.LookPath(tool)
	if err != nil {
		return ""
	}
	return path
}

// python finds the Python that has moto: python3, or the one that runs the script
// moto_server, which pipx, uv and virtual environments keep apart. A pyenv shim is a
// shell script; pyenv tells what is behind it.
func python(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	candidates := []string{"python3"}
	if script, err := exec.LookPath("moto_server"); err == nil {
		candidates = append(candidates, interpreter(script))
	}
	if out, err := exec.CommandContext(ctx, "pyenv", "which", "moto_server").Output(); err == nil {
		candidates = append(candidates, interpreter(strings.TrimSpace(string(out))))
	}
	for _, candidate := range candidates {
		if path := withMoto(ctx, candidate); path != "" {
			return path
		}
	}
	return ""
}

// withMoto is the path of the very interpreter, if it has moto and its server.
func withMoto(ctx context.Context, candidate string) string {
	if candidate == "" {
		return ""
	}
	const question = `import sys, importlib.util as u
print(sys.executable if all(map(u.find_spec, ("moto", "flask", "werkzeug"))) else "")`
	out, err := exec.CommandContext(ctx, candidate, "-c", question).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// interpreter is the Python named in a script's first line, "" when it names none.
func interpreter(script string) string {
	file, err := os.Open(script)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	line, err := bufio.NewReader(file).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "#!") {
		return ""
	}
	fields := strings.Fields(strings.TrimPrefix(line, "#!"))
	if len(fields) == 0 || !strings.Contains(fields[0], "python") {
		return ""
	}
	return fields[0]
}
