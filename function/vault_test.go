package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// vault plays Secrets Manager and Parameter Store as far as one secret and one parameter
// go, with what makes a write of theirs safe to send again: Secrets Manager takes the id
// of a version once, Parameter Store counts. TestTheTokenIsRotatedInWhatAWSKeeps pins it
// on moto.
type vault struct {
	mu   sync.Mutex
	over chan struct{} // stalled calls end

	versions []*stored // of the secret gitlab/token, in the order they came
	managed  map[string]any
	values   []value // of the parameter /gitlab/token, version 1 first
	key      string  // that the parameter is kept with

	// fate is what becomes of a call: "" all is well, "refused", "500" not done, "lost"
	// done and not told, "slow" done after a while, "stall" never answered. n counts the calls of the same name.
	fate   func(name string, n int) string
	called []string
	events []string // put on the bus
}

type stored struct {
	id, text string
	stages   []string
	made     time.Time
}

type value struct {
	text, key string
	made      time.Time
}

const longAgo = -24 * time.Hour

// newVault listens until the test, or the script, ends.
func newVault(t interface{ Cleanup(done func()) }, secret, parameter string) (*vault, []string) {
	v := &vault{
		versions: []*stored{{"11111111-2222-3333-4444-555555555555", secret, []string{"AWSCURRENT"}, time.Now().Add(longAgo)}},
		values:   []value{{parameter, "alias/mine", time.Now().Add(longAgo)}},
		key:      "alias/mine", managed: map[string]any{}, over: make(chan struct{}),
	}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	return v, []string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + server.URL, "AWS_ENDPOINT_URL_SSM=" + server.URL, "AWS_ENDPOINT_URL_EVENTBRIDGE=" + server.URL,
	}
}

// current is the text that is read without asking for a version.
func (v *vault) current() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.staged("AWSCURRENT").text
}

func (v *vault) parameter() value {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.values[len(v.values)-1]
}

// meets sets what becomes of the calls from now on.
func (v *vault) meets(fate func(name string, n int) string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fate = fate
}

// manage sets what DescribeSecret says beside the usual.
func (v *vault) manage(managed map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.managed = managed
}

// hold puts a token in both places.
func (v *vault) hold(token string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.versions[0].text, v.values[0].text = token, token
}

// written counts the versions of the parameter.
func (v *vault) written() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.values)
}

// told is what was put on the bus.
func (v *vault) told() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.events)
}

// calls counts the calls of a name.
func (v *vault) calls(name string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count(name)
}

func (v *vault) count(name string) (n int) {
	for _, c := range v.called {
		if c == name {
			n++
		}
	}
	return n
}

func (v *vault) letGo() { close(v.over) }

// grow makes everything older.
func (v *vault) grow(by time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.versions {
		w.made = w.made.Add(-by)
	}
	for i := range v.values {
		v.values[i].made = v.values[i].made.Add(-by)
	}
}

func (v *vault) staged(stage string) *stored {
	for _, w := range v.versions {
		if slices.Contains(w.stages, stage) {
			return w
		}
	}
	return nil
}

func (v *vault) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	_, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	v.mu.Lock()
	v.called = append(v.called, name)
	fate := ""
	if v.fate != nil {
		fate = v.fate(name, v.count(name))
	}
	v.mu.Unlock()
	switch fate {
	case "refused":
		answer(rw, 400, map[string]any{"__type": "AccessDeniedException", "message": "not authorized"})
		return
	case "500":
		answer(rw, 500, map[string]any{"__type": "InternalServiceError", "message": "oh"})
		return
	case "slow":
		time.Sleep(100 * time.Millisecond)
	case "stall":
		select {
		case <-r.Context().Done():
		case <-v.over:
		}
		panic(http.ErrAbortHandler)
	}
	status, out := v.do(name, in)
	if fate == "lost" {
		panic(http.ErrAbortHandler)
	}
	answer(rw, status, out)
}

func answer(rw http.ResponseWriter, status int, out any) {
	rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(out)
}

func text(in map[string]any, name string) string {
	s, _ := in[name].(string)
	return s
}

func no(code, message string) (int, any) {
	return 400, map[string]any{"__type": code, "message": message}
}

// do does what is asked, and answers in JSON.
func (v *vault) do(name string, in map[string]any) (int, json.RawMessage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	status, out := v.reply(name, in)
	text, _ := json.Marshal(out)
	return status, text
}

func (v *vault) reply(name string, in map[string]any) (int, any) {
	if id := text(in, "SecretId"); id != "" && id != "gitlab/token" {
		return no("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	switch name {
	case "DescribeSecret":
		stages := map[string]any{}
		for _, w := range v.versions {
			stages[w.id] = w.stages
		}
		out := map[string]any{"ARN": "arn:secret", "Name": "gitlab/token", "VersionIdsToStages": stages}
		for name, value := range v.managed {
			out[name] = value
		}
		return 200, out
	case "GetSecretValue":
		return v.getSecret(in)
	case "PutSecretValue":
		return v.putSecret(in)
	case "GetParameter":
		return v.getParameter(in)
	case "DescribeParameters":
		return 200, map[string]any{"Parameters": []any{map[string]any{"Name": "/gitlab/token", "Type": "SecureString", "KeyId": v.key, "Tier": "Standard", "DataType": "text"}}}
	case "PutParameter":
		return v.putParameter(in)
	case "PutEvents":
		all, _ := json.Marshal(in)
		v.events = append(v.events, string(all))
		return 200, map[string]any{"FailedEntryCount": 0, "Entries": []any{}}
	}
	return no("UnknownOperationException", name)
}

func (v *vault) getSecret(in map[string]any) (int, any) {
	for _, w := range v.versions {
		if w.id == text(in, "VersionId") || slices.Contains(w.stages, text(in, "VersionStage")) {
			return 200, map[string]any{"ARN": "arn:secret", "Name": "gitlab/token", "VersionId": w.id, "SecretString": w.text, "VersionStages": w.stages, "CreatedDate": float64(w.made.UnixMilli()) / 1000}
		}
	}
	return no("ResourceNotFoundException", "no such version")
}

func (v *vault) putSecret(in map[string]any) (int, any) {
	id := text(in, "ClientRequestToken")
	stages := []string{"AWSCURRENT"}
	if given, ok := in["VersionStages"].([]any); ok {
		stages = nil
		for _, s := range given {
			stages = append(stages, fmt.Sprint(s))
		}
	}
	for _, w := range v.versions {
		if w.id != id {
			continue
		}
		if w.text != text(in, "SecretString") {
			return no("ResourceExistsException", "A resource with the ID you requested already exists.")
		}
		return 200, map[string]any{"VersionId": id}
	}
	for _, w := range v.versions {
		w.stages = slices.DeleteFunc(w.stages, func(s string) bool { return slices.Contains(stages, s) })
	}
	v.versions = append(v.versions, &stored{id, text(in, "SecretString"), stages, time.Now()})
	return 200, map[string]any{"VersionId": id}
}

func (v *vault) getParameter(in map[string]any) (int, any) {
	name, selector, _ := strings.Cut(strings.TrimPrefix(text(in, "Name"), "arn:aws:ssm:us-east-1:123456789012:parameter"), ":")
	n := len(v.values)
	out := map[string]any{"Name": "/gitlab/token", "Type": "SecureString"}
	if selector != "" {
		_, _ = fmt.Sscan(selector, &n)
		out["Selector"] = ":" + selector
	}
	if name != "/gitlab/token" || n < 1 || n > len(v.values) {
		return no("ParameterNotFound", "")
	}
	out["Value"], out["Version"], out["LastModifiedDate"] = v.values[n-1].text, n, float64(v.values[n-1].made.UnixMilli())/1000
	return 200, map[string]any{"Parameter": out}
}

func (v *vault) putParameter(in map[string]any) (int, any) {
	if text(in, "Name") != "/gitlab/token" || in["Overwrite"] != true {
		return no("ParameterAlreadyExists", "or an ARN")
	}
	key := text(in, "KeyId")
	if key == "" {
		key = "alias/aws/ssm"
	}
	v.values = append(v.values, value{text(in, "Value"), key, time.Now()})
	return 200, map[string]any{"Version": len(v.values)}
}
