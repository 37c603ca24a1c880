package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"credential-rotator/rotator"
)

// AWS is IAM and STS over HTTP, in the query protocol of 2010-05-08 and
// 2011-06-15. IAM obeys the operator alone; a service's key may ask STS who it is.
func (w *World) AWS() http.Handler {
	return w.hostile(http.HandlerFunc(w.serveAWS), func(rw http.ResponseWriter, f Fate) {
		switch f {
		case TooMany: // IAM throttles with a 400
			sendAWSError(rw, &awsError{http.StatusBadRequest, "Throttling", "Rate exceeded"})
		case Unauthorized:
			sendAWSError(rw, invalidClientToken())
		default:
			sendAWSError(rw, &awsError{http.StatusForbidden, "AccessDenied", "User is not authorized to perform this action"})
		}
	})
}

// awsRequest is a request as it was signed.
type awsRequest struct {
	*http.Request
	body                     []byte
	form                     url.Values
	keyID, region, service   string
	signature, signedHeaders string
}

// awsAction is something that IAM does.
type awsAction struct {
	write bool
	do    func(w *World, p *process, form url.Values) ([]node, error)
}

// iamAction finds what IAM does by its name.
func iamAction(name string) (awsAction, bool) {
	action, known := map[string]awsAction{
		"CreateUser":               {true, awsCreateUser},
		"DeleteUser":               {true, awsDeleteUser},
		"GetUser":                  {false, awsGetUser},
		"ListUsers":                {false, awsListUsers},
		"TagUser":                  {true, awsTagUser},
		"ListUserTags":             {false, awsListUserTags},
		"AttachUserPolicy":         {true, awsAttachUserPolicy},
		"ListAttachedUserPolicies": {false, awsListAttachedUserPolicies},
		"CreateAccessKey":          {true, awsCreateAccessKey},
		"ListAccessKeys":           {false, awsListAccessKeys},
		"UpdateAccessKey":          {true, awsUpdateAccessKey},
		"DeleteAccessKey":          {true, awsDeleteAccessKey},
		"GetAccessKeyLastUsed":     {false, awsGetAccessKeyLastUsed},
	}[name]
	return action, known
}

func (w *World) serveAWS(rw http.ResponseWriter, r *http.Request) {
	req, err := readAWS(r)
	if err != nil {
		sendAWSError(rw, err)
		return
	}
	name := req.form.Get("Action")
	operator := req.keyID == w.opts.Operator.ID
	caller := w.caller("key "+req.keyID, false)
	if operator {
		caller = w.caller("operator", true)
	}
	var reply []node
	action, _ := iamAction(name)
	o := op{
		name: req.service + "." + name, write: action.write, says: []any{req.form},
		detail: strings.TrimSpace(req.form.Get("UserName") + " " + req.form.Get("AccessKeyId")),
	}
	err = caller.do(r.Context(), o, func() error {
		who, err := w.identify(req)
		if err != nil {
			return err
		}
		reply, err = w.obey(caller, req, who)
		return err
	})
	if err != nil {
		sendAWSError(rw, err)
		return
	}
	sendAWS(rw, http.StatusOK, node{
		XMLName:  xml.Name{Space: namespace(req.service), Local: name + "Response"},
		Children: append(result(name, reply), node{XMLName: local("ResponseMetadata"), Children: []node{text("RequestId", requestID)}}),
	})
}

// identity is who calls.
type identity struct{ arn, id string }

// identify authenticates the caller: the signature must be that of the key's secret.
func (w *World) identify(req *awsRequest) (identity, error) {
	if op := w.opts.Operator; req.keyID == op.ID {
		if !req.signedWith(op.Secret) {
			return identity{}, signatureDoesNotMatch()
		}
		return identity{"arn:aws:iam::" + w.opts.AccountID + ":user/operator", "AIDAOPERATOROPERATORA"}, nil
	}
	secret := ""
	if k, err := w.findKey("", req.keyID); err == nil && req.signedWith(k.secret) {
		secret = k.secret
	}
	u, err := w.authenticate(req.keyID, secret, req.service, req.region)
	if err != nil {
		return identity{}, err
	}
	return identity{w.arn(u), u.id}, nil
}

// obey does what the caller asks, if it may.
func (w *World) obey(p *process, req *awsRequest, who identity) ([]node, error) {
	name := req.form.Get("Action")
	if req.service == "sts" && name == "GetCallerIdentity" { // needs no permission
		return []node{text("Arn", who.arn), text("UserId", who.id), text("Account", w.opts.AccountID)}, nil
	}
	action, known := iamAction(name)
	switch {
	case req.service != "iam" || !known:
		return nil, &awsError{http.StatusBadRequest, "InvalidAction", "Could not find operation " + name + " for version " + req.form.Get("Version")}
	case !p.judged:
		return nil, &awsError{http.StatusForbidden, "AccessDenied", "User: " + who.arn + " is not authorized to perform: iam:" + name}
	}
	return action.do(w, p, req.form)
}

// readAWS reads a request and whose it says it is.
func readAWS(r *http.Request) (*awsRequest, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, &awsError{http.StatusBadRequest, "MalformedInput", "the body cannot be read"}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") == "" {
		return nil, &awsError{http.StatusBadRequest, "MissingAction", "Missing Action"}
	}
	req := &awsRequest{Request: r, body: body, form: form}
	parts, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, &awsError{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	for part := range strings.SplitSeq(parts, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Credential": // key id/date/region/service/aws4_request
			scope := append(strings.Split(value, "/"), "", "", "", "")
			req.keyID, req.region, req.service = scope[0], scope[2], scope[3]
		case "SignedHeaders":
			req.signedHeaders = value
		case "Signature":
			req.signature = value
		}
	}
	return req, nil
}

// signedWith signs the request again, as its sender must have, and compares.
func (req *awsRequest) signedWith(secret string) bool {
	at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again := &http.Request{Method: req.Method, URL: req.URL, Host: req.Host, Header: http.Header{}}
	for name := range strings.SplitSeq(req.signedHeaders, ";") {
		if values := req.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
		if name == "content-length" {
			again.ContentLength = int64(len(req.body))
		}
	}
	again.URL = &url.URL{Scheme: "http", Host: req.Host, Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	hash := sha256.Sum256(req.body)
	credentials := aws.Credentials{AccessKeyID: req.keyID, SecretAccessKey: secret}
	err = v4.NewSigner().SignHTTP(context.Background(), credentials, again, hex.EncodeToString(hash[:]), req.service, req.region, at)
	return err == nil && strings.HasSuffix(again.Header.Get("Authorization"), "Signature="+req.signature)
}

func awsCreateUser(w *World, _ *process, f url.Values) ([]node, error) {
	u, err := w.createUser(User{Name: f.Get("UserName"), Path: f.Get("Path"), Tags: tagsIn(f)})
	if err != nil {
		return nil, err
	}
	return []node{element("User", w.userNodes(u)...)}, nil
}

func awsDeleteUser(w *World, _ *process, f url.Values) ([]node, error) {
	return nil, w.deleteUser(f.Get("UserName"))
}

func awsGetUser(w *World, _ *process, f url.Values) ([]node, error) {
	u, err := w.findUser(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	return []node{element("User", append(w.userNodes(u), element("Tags", u.tagNodes()...))...)}, nil
}

func awsListUsers(w *World, _ *process, f url.Values) ([]node, error) {
	var members []node
	for _, name := range slices.Sorted(maps.Keys(w.users)) {
		if u := w.users[name]; strings.HasPrefix(u.Path, f.Get("PathPrefix")) {
			members = append(members, element("member", w.userNodes(u)...))
		}
	}
	return w.page(f, "Users", members), nil
}

func awsTagUser(w *World, _ *process, f url.Values) ([]node, error) {
	return nil, w.tagUser(f.Get("UserName"), tagsIn(f))
}

func awsListUserTags(w *World, _ *process, f url.Values) ([]node, error) {
	u, err := w.findUser(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	return w.page(f, "Tags", u.tagNodes()), nil
}

func awsAttachUserPolicy(w *World, _ *process, f url.Values) ([]node, error) {
	u, err := w.findUser(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	arn := f.Get("PolicyArn")
	u.Policies = append(u.Policies, arn[strings.LastIndex(arn, "/")+1:])
	return nil, nil
}

func awsListAttachedUserPolicies(w *World, _ *process, f url.Values) ([]node, error) {
	u, err := w.findUser(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	var members []node
	for _, name := range u.Policies {
		members = append(members, element("member", text("PolicyName", name), text("PolicyArn", "arn:aws:iam::aws:policy/"+name)))
	}
	return w.page(f, "AttachedPolicies", members), nil
}

func awsCreateAccessKey(w *World, _ *process, f url.Values) ([]node, error) {
	k, err := w.createKey(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	return []node{element("AccessKey", append(k.nodes(), text("SecretAccessKey", k.secret))...)}, nil
}

func awsListAccessKeys(w *World, p *process, f url.Values) ([]node, error) {
	keys, err := w.listKeys(f.Get("UserName"))
	if err != nil {
		return nil, err
	}
	p.sawKeys = w.seq
	var members []node
	for _, k := range keys {
		members = append(members, element("member", k.nodes()...))
	}
	return append(w.page(f, "AccessKeyMetadata", members), text("UserName", f.Get("UserName"))), nil
}

func awsUpdateAccessKey(w *World, _ *process, f url.Values) ([]node, error) {
	return nil, w.updateKey(f.Get("UserName"), f.Get("AccessKeyId"), rotator.KeyStatus(f.Get("Status")))
}

func awsDeleteAccessKey(w *World, _ *process, f url.Values) ([]node, error) {
	return nil, w.deleteKey(f.Get("UserName"), f.Get("AccessKeyId"))
}

// awsGetAccessKeyLastUsed says N/A, and no date, of a key that was never used.
func awsGetAccessKeyLastUsed(w *World, _ *process, f url.Values) ([]node, error) {
	k, err := w.findKey("", f.Get("AccessKeyId"))
	if err != nil {
		return nil, err
	}
	use := []node{text("ServiceName", "N/A"), text("Region", "N/A")}
	if !k.lastUse.At.IsZero() {
		use = []node{text("LastUsedDate", stampOf(k.lastUse.At)), text("ServiceName", k.lastUse.Service), text("Region", k.lastUse.Region)}
	}
	return []node{text("UserName", k.owner.Name), element("AccessKeyLastUsed", use...)}, nil
}

func (w *World) userNodes(u *user) []node {
	return []node{
		text("Path", u.Path), text("UserName", u.Name), text("UserId", u.id),
		text("Arn", w.arn(u)), text("CreateDate", stampOf(u.created)),
	}
}

func (u *user) tagNodes() []node {
	var members []node
	for _, key := range slices.Sorted(maps.Keys(u.Tags)) {
		members = append(members, element("member", text("Key", key), text("Value", u.Tags[key])))
	}
	return members
}

func (k *accessKey) nodes() []node {
	return []node{
		text("UserName", k.owner.Name), text("AccessKeyId", k.id),
		text("Status", string(k.status)), text("CreateDate", stampOf(k.created)),
	}
}

// tagsIn reads Tags.member.1.Key and so on.
func tagsIn(f url.Values) map[string]string {
	tags := map[string]string{}
	for i := 1; f.Has("Tags.member." + strconv.Itoa(i) + ".Key"); i++ {
		prefix := "Tags.member." + strconv.Itoa(i) + "."
		tags[f.Get(prefix+"Key")] = f.Get(prefix + "Value")
	}
	return tags
}

// page cuts a list to the asked, or the usual, size. IAM may return fewer than
// MaxItems, so Marker is what tells (IAM API reference, ListAccessKeys).
func (w *World) page(f url.Values, name string, members []node) []node {
	size := w.opts.PageSize
	if asked, err := strconv.Atoi(f.Get("MaxItems")); err == nil {
		size = min(size, asked)
	}
	from, _ := strconv.Atoi(f.Get("Marker"))
	from = min(from, len(members))
	to := min(from+size, len(members))
	nodes := []node{element(name, members[from:to]...), text("IsTruncated", strconv.FormatBool(to < len(members)))}
	if to < len(members) {
		nodes = append(nodes, text("Marker", strconv.Itoa(to)))
	}
	return nodes
}

// node is an element of XML.
type node struct {
	XMLName  xml.Name
	Text     string `xml:",chardata"`
	Children []node
}

func local(name string) xml.Name   { return xml.Name{Local: name} }
func text(name, value string) node { return node{XMLName: local(name), Text: value} }
func element(name string, children ...node) node {
	return node{XMLName: local(name), Children: children}
}
func stampOf(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// requestID is that of every reply: nobody reads it.
const requestID = "5a1d0b0e-0000-4000-8000-000000004711"

func namespace(service string) string {
	if service == "sts" {
		return "https://sts.amazonaws.com/doc/2011-06-15/"
	}
	return "https://iam.amazonaws.com/doc/2010-05-08/"
}

// result is the element with what an action returns; those that return nothing have none.
func result(action string, reply []node) []node {
	if reply == nil {
		return nil
	}
	return []node{element(action+"Result", reply...)}
}

func sendAWSError(rw http.ResponseWriter, err error) {
	var e *awsError
	if !errors.As(err, &e) {
		e = &awsError{http.StatusInternalServerError, "ServiceFailure", "The request processing has failed because of an unknown error, exception or failure."}
	}
	kind := "Sender"
	if e.status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	sendAWS(rw, e.status, node{
		XMLName: xml.Name{Space: namespace("iam"), Local: "ErrorResponse"},
		Children: []node{
			element("Error", text("Type", kind), text("Code", e.code), text("Message", e.message)),
			text("RequestId", requestID),
		},
	})
}

func sendAWS(rw http.ResponseWriter, status int, reply node) {
	var body bytes.Buffer
	_ = xml.NewEncoder(&body).Encode(reply)
	rw.Header().Set("X-Amzn-Requestid", requestID)
	send(rw, status, "text/xml", body.String())
}
