package lambda

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// invokeAPI is what `aws lambda invoke` and the SDKs talk to. An invocation of
// type Event is answered at once and tried once; Lambda would try it again.
func (f *Function) invokeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", f.serveInvoke)
	return mux
}

func (f *Function) serveInvoke(w http.ResponseWriter, r *http.Request) {
	name, qualifier := split(r.PathValue("name"))
	asked := r.URL.Query().Get("Qualifier")
	switch {
	case qualifier != "" && asked != "" && qualifier != asked:
		fail(w, http.StatusBadRequest, "InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier.")
		return
	case qualifier == "":
		qualifier = asked
	}
	arn := ARN
	if qualifier != "" {
		arn += ":" + qualifier
	}
	if name != Name || qualifier != "" && !f.has(qualifier) {
		fail(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+arn)
		return
	}
	event, err := readPayload(w, r)
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation")
		return
	}
	if len(event) == 0 {
		event = []byte("{}") // what Lambda hands over for no payload
	}
	if r.Header.Get("X-Amz-Invocation-Type") == "Event" {
		go func() { _, _ = f.invoke(context.WithoutCancel(r.Context()), arn, event) }()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	response, err := f.invoke(r.Context(), arn, event)
	if err != nil {
		fail(w, http.StatusInternalServerError, "ServiceException", err.Error())
		return
	}
	w.Header().Set("X-Amz-Executed-Version", latest)
	if response.FunctionError != "" {
		w.Header().Set("X-Amz-Function-Error", response.FunctionError)
	}
	_, _ = w.Write(response.Payload)
}

// split takes apart how a function is named in a URL: NAME, ACCOUNT:function:NAME or
// the ARN, each with :QUALIFIER or without.
func split(in string) (name, qualifier string) {
	for _, prefix := range []string{ARN, partialARN, Name} {
		if in == prefix {
			return Name, ""
		}
		if qualifier, ok := strings.CutPrefix(in, prefix+":"); ok && qualifier != "" {
			return Name, qualifier
		}
	}
	return in, ""
}

// fail is an error of Lambda's own, as the SDKs read it.
func fail(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"Type": "User", "Message": message}) // who hung up is gone
}
