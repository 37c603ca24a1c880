package lambda

import (
	"context"
	"net/http"
)

// invokeAPI is what `aws lambda invoke` and the SDKs talk to. An invocation of
// type Event is answered at once and tried once; Lambda would try it again.
func (f *Function) invokeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", f.serveInvoke)
	return mux
}

func (f *Function) serveInvoke(w http.ResponseWriter, r *http.Request) {
	if name := r.PathValue("name"); name != Name && name != functionARN {
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		refuse(w, http.StatusNotFound, "ResourceNotFoundException")
		return
	}
	event, err := readPayload(w, r)
	if err != nil {
		w.Header().Set("X-Amzn-Errortype", "RequestTooLargeException")
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException")
		return
	}
	if len(event) == 0 {
		event = []byte("{}") // what Lambda hands over for no payload
	}
	if r.Header.Get("X-Amz-Invocation-Type") == "Event" {
		go func() { _, _ = f.Invoke(context.WithoutCancel(r.Context()), event) }()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	response, err := f.Invoke(r.Context(), event)
	if err != nil {
		w.Header().Set("X-Amzn-Errortype", "ServiceException")
		refuse(w, http.StatusInternalServerError, "ServiceException")
		return
	}
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	if response.FunctionError != "" {
		w.Header().Set("X-Amz-Function-Error", response.FunctionError)
	}
	_, _ = w.Write(response.Payload)
}
