package gitlab

import (
	"slices"
	"strconv"
	"strings"
)

// ciFile is what a CI file says about variables, as far as it concerns who gets which.
type ciFile struct {
	variables []string // global ones
	jobs      []ciJob
}

type ciJob struct {
	name        string
	environment string
	variables   []string
	inherits    bool     // global variables,
	only        []string // or of them these only
}

// gives tells whether a job has a variable by the file.
func (f ciFile) gives(job ciJob, name string) bool {
	inherited := job.inherits && (job.only == nil || slices.Contains(job.only, name))
	return slices.Contains(job.variables, name) || inherited && slices.Contains(f.variables, name)
}

// readCIFile reads the file that GitLab has put together (merged_yaml of its linter).
// That is not whatever YAML somebody wrote, but what Ruby's Psych writes of it: blocks,
// two spaces a level, one key a line, keys of older releases with a colon in front. What
// is otherwise is not seen, and nothing depends on it but a warning.
func readCIFile(merged string) ciFile {
	var f ciFile
	type level struct {
		indent int
		key    string
	}
	var path []level
	text := -1 // below that indent is the text of a block scalar
	for line := range strings.Lines(merged) {
		content := strings.TrimSpace(line)
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if content == "" || content == "---" || text >= 0 && indent > text {
			continue
		}
		text = -1
		if isBlock(content) {
			text = indent
		}
		item, isItem := strings.CutPrefix(content, "- ")
		for len(path) > 0 && (path[len(path)-1].indent > indent || !isItem && path[len(path)-1].indent == indent) {
			path = path[:len(path)-1]
		}
		key, value, isKey := keyOf(content)
		keys := make([]string, 0, 4)
		for _, l := range path {
			keys = append(keys, l.key)
		}
		switch {
		case isItem:
			f.item(keys, scalar(item))
		case isKey:
			path = append(path, level{indent, key})
			f.entry(append(keys, key), value)
		}
	}
	return f
}

// isBlock tells whether a line begins a text of several lines.
func isBlock(content string) bool {
	for _, end := range []string{"|", "|-", "|+", ">", ">-", ">+"} {
		if strings.HasSuffix(content, " "+end) {
			return true
		}
	}
	return false
}

// keyOf cuts "key: value".
func keyOf(content string) (key, value string, ok bool) {
	if q := content[0]; q == '"' || q == '\'' {
		end := strings.Index(content[1:], string(q)+":")
		if end < 0 {
			return "", "", false
		}
		return scalar(content[:end+2]), scalar(strings.TrimSpace(content[end+3:])), true
	}
	symbol := strings.TrimPrefix(content, ":")
	if key, ok = strings.CutSuffix(symbol, ":"); ok && !strings.Contains(key, ": ") {
		return key, "", true
	}
	key, value, ok = strings.Cut(symbol, ": ")
	return key, scalar(strings.TrimSpace(value)), ok
}

// scalar is a word without its quotes.
func scalar(s string) string {
	switch {
	case len(s) < 2:
	case s[0] == '\'' && s[len(s)-1] == '\'':
		return strings.ReplaceAll(s[1:len(s)-1], "''", "'")
	case s[0] == '"':
		if text, err := strconv.Unquote(s); err == nil {
			return text
		}
	}
	return s
}

// notJobs are the keywords at the top of a CI file.
const notJobs = " after_script before_script cache default image include services spec stages types variables workflow "

// entry takes a key of the file, with the keys above it.
func (f *ciFile) entry(path []string, value string) {
	top := path[0]
	if strings.HasPrefix(top, ".") || top != "variables" && strings.Contains(notJobs, " "+top+" ") {
		return
	}
	if top == "variables" {
		if len(path) == 2 {
			f.variables = append(f.variables, path[1])
		}
		return
	}
	if len(path) == 1 {
		f.jobs = append(f.jobs, ciJob{name: top, inherits: true})
		return
	}
	job := &f.jobs[len(f.jobs)-1]
	switch at := strings.Join(path[1:], "/"); {
	case at == "environment", at == "environment/name":
		job.environment = value
	case at == "inherit/variables" && value == "false":
		job.inherits = false
	case at == "inherit/variables" && value == "":
		job.only = []string{} // they follow
	case len(path) == 3 && path[1] == "variables":
		job.variables = append(job.variables, path[2])
	}
}

// item takes an item of a list.
func (f *ciFile) item(path []string, value string) {
	if len(path) != 3 || len(f.jobs) == 0 {
		return
	}
	if job := &f.jobs[len(f.jobs)-1]; job.name == path[0] && path[1] == "inherit" && path[2] == "variables" {
		job.only = append(job.only, value)
	}
}
