package sandbox

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// HTTPIntercept decides the fate of a request to one of the fronts.
type HTTPIntercept func(*http.Request) Fate

// InterceptHTTP sets what decides the fate of every further request; nil lets all
// of them pass.
func (w *World) InterceptHTTP(decide HTTPIntercept) {
	defer w.enter()()
	w.intercept = decide
}

// hostile lets every request meet its fate. no says a refusal in the words of the
// service behind it.
func (w *World) hostile(next http.Handler, no func(http.ResponseWriter, Fate)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		const gateway = "<html><body><h1>502 Bad Gateway</h1></body></html>"
		switch fate := w.fate(r); fate {
		case OK:
			next.ServeHTTP(rw, r)
		case Refused, Unauthorized, TooMany:
			no(rw, fate)
		case BadGateway:
			send(rw, http.StatusBadGateway, "text/html", gateway)
		case BadGatewayAfter:
			next.ServeHTTP(nowhere{}, r)
			send(rw, http.StatusBadGateway, "text/html", gateway)
		case WebPage:
			send(rw, http.StatusOK, "text/html", "<!DOCTYPE html><html><body>Sign in</body></html>")
		case Stalled:
			next.ServeHTTP(nowhere{}, r)
			<-r.Context().Done()
		case Lost, Late, CrashAfter:
			next.ServeHTTP(nowhere{}, r)
			panic(http.ErrAbortHandler) // net/http cuts the connection
		case CrashBefore:
			panic(http.ErrAbortHandler)
		}
	})
}

func (w *World) fate(r *http.Request) Fate {
	leave := w.enter()
	decide := w.intercept
	leave()
	if decide == nil {
		return OK
	}
	return decide(r)
}

// nowhere is where a reply goes that nobody gets.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// send sends a reply. Date is the world's own, to the second, as every server's is.
func send(rw http.ResponseWriter, status int, contentType, body string) {
	rw.Header().Set("Content-Type", contentType)
	rw.Header().Set("Date", instant().Format(http.TimeFormat))
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(body))
}

// caller is the process that stands for one caller of a front.
func (w *World) caller(name string, judged bool) *process {
	defer w.enter()()
	if w.front[name] == nil {
		w.front[name] = &process{w: w, name: name, judged: judged}
	}
	return w.front[name]
}

// Server is a world that listens.
type Server struct {
	AWSURL    string // for IAM and STS: the SDKs' AWS_ENDPOINT_URL
	GitLabURL string // what GITLAB_URL is
	world     *World
	servers   []*http.Server
	stop      chan struct{}
	done      sync.WaitGroup
}

// Serve listens on two free ports of 127.0.0.1, one for each service. Web
// addresses in GitLab's replies begin with the port's. Between calls the world is
// kept going, so that jobs outside of it start in time.
func Serve(w *World) (*Server, error) { return ServeHostile(w, nil) }

// ServeHostile is Serve with a Hostility in front of both services; nil is none.
func ServeHostile(w *World, h *Hostility) (*Server, error) {
	s := &Server{world: w, stop: make(chan struct{})}
	aws, err := s.listen(h.front("aws", w.AWS()))
	if err != nil {
		return nil, err
	}
	gitlab, err := s.listen(h.front("gitlab", w.GitLab()))
	if err != nil {
		s.Close()
		return nil, err
	}
	s.AWSURL, s.GitLabURL = aws, gitlab
	defer w.enter()()
	w.opts.GitLabURL = gitlab
	s.done.Go(s.tick)
	return s, nil
}

func (s *Server) listen(h http.Handler) (url string, err error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	s.servers = append(s.servers, server)
	s.done.Go(func() { _ = server.Serve(l) })
	return "http://" + l.Addr().String(), nil
}

func (s *Server) tick() {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.world.enter()()
		}
	}
}

// Close stops listening, and the world's deploy jobs.
func (s *Server) Close() {
	close(s.stop)
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.done.Wait()
	s.world.Close()
}
