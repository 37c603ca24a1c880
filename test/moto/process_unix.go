//go:build unix

package moto

import (
	"os/exec"
	"syscall"
)

// ownGroup starts a command as the head of a process group, so that killGroup finds
// whatever it starts.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
