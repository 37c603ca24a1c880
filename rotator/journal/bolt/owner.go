package bolt

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Owner identifies this process on this machine, for the beginning of
// rotator.Lease.Owner: host/boot/pid/start, to be followed by "/" and something
// random. boot is the kernel's boot id with the number of the pid namespace, start the
// clock tick at which the process began; both are empty where the system does not
// tell (anywhere but Linux).
//
// It is what lets another process see at once that the owner of a lease is dead.
func Owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	pid := os.Getpid()
	_, start := stat(pid)
	return strings.Join([]string{host, boot(), strconv.Itoa(pid), start}, "/")
}

// dead tells whether the process that an owner's name begins with certainly runs no
// more. In doubt it does: its lease runs out by itself.
func dead(owner string) bool {
	// host/boot/pid/start/random
	was := strings.SplitN(owner, "/", 5)
	host, err := os.Hostname()
	if len(was) < 4 || err != nil || was[0] == "" || was[0] != host {
		return false
	}
	pid, err := strconv.Atoi(was[2])
	if err != nil || pid <= 0 {
		return false
	}
	wasBoot, wasSpace, _ := strings.Cut(was[1], "@")
	isBoot, isSpace, _ := strings.Cut(boot(), "@")
	if wasBoot != "" && isBoot != "" && wasBoot != isBoot {
		return true
	}
	// Another container may share the host's name, but not its process numbers.
	if wasBoot != isBoot || wasSpace != isSpace {
		return false
	}
	if gone(pid) {
		return true
	}
	state, is := stat(pid)
	if state == "Z" || state == "X" {
		return true // it has died, and its parent has not asked how
	}
	return was[3] != "" && is != "" && was[3] != is // the number has a new bearer
}

// gone tells whether no process has this number.
func gone(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	return errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// boot is the boot id and, after an @, the pid namespace; "" where there are none.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/pid") // pid:[4026531836]
	if err != nil {
		space = ""
	}
	return strings.TrimSpace(string(id)) + "@" + strings.Trim(space, "pid:[]")
}

// stat is the state of a process, and the time at which it began in clock ticks since
// boot: fields 3 and 22 of /proc/PID/stat (proc(5)). Both are "" when it cannot be read.
func stat(pid int) (state, start string) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", ""
	}
	// Field 2 is the program's name in parentheses and may hold anything; field 3
	// follows the last one.
	text := string(line)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return "", ""
	}
	return fields[0], fields[22-3]
}
