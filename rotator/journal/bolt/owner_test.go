package bolt

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAProcessThatWasKilledIsDeadBeforeItsParentHasAskedHow(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	_, start := stat(cmd.Process.Pid)
	owner := strings.Join([]string{host, boot(), strconv.Itoa(cmd.Process.Pid), start, "random"}, "/")
	if dead(owner) {
		t.Fatal("it lives, and is taken for dead")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !dead(owner); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was killed, and is taken for alive")
		}
	}
	_ = cmd.Wait()
}
