package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What ./dev test hands to the tests. A test that lacks it fails and says which command gives it.
func needed(name string) string {
	value := os.Getenv(name)
	if value == "" {
		panic(name + " is not set: run the SDK tests with ./dev test go")
	}
	return value
}

// The kernel ends what this program started when the thread that started it ends: the main one, and with it this program, however that was.
func init() { runtime.LockOSThread() }

func command(name string, arguments ...string) *exec.Cmd {
	command := exec.Command(name, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

func createTopic(name string, partitions int) error {
	tool := command(needed("CORESPAN_TEST_KAFKA_DEV"), "kafka", "TopicCommand", "--bootstrap-server", needed("CORESPAN_TEST_KAFKA"),
		"--create", "--topic", name, "--partitions", fmt.Sprint(partitions))
	overdue := time.AfterFunc(50*time.Second, func() { _ = tool.Process.Kill() })
	defer overdue.Stop()
	if printed, err := tool.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, printed)
	}
	return nil
}

// 20000 to 29999 belong to the SDK tests (tests/README.md says who has the others). Test programs that run beside each other begin at different places.
var portsTried = os.Getpid() * 97

func freePort() (int, error) {
	for range 10_000 {
		port := 20_000 + portsTried%10_000
		portsTried++
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no port from 20000 to 29999 is free")
}

// `corespan serve` as a process of its own.
type node struct {
	port    int
	folder  string
	process *exec.Cmd
}

// Ready when it returns.
func startNode(topics ...string) (*node, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	adminPort, err := freePort()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "corespan-")
	if err != nil {
		return nil, err
	}
	names, _ := json.Marshal(topics)
	bootstrap := needed("CORESPAN_TEST_KAFKA")
	config := fmt.Sprintf(`drain.seconds = 1

[publish]
pattern = ".*"

[listen]
address = "127.0.0.1:%d"
admin = "127.0.0.1:%d"

[cores]
shards = 2

[kafka.consumer]
"bootstrap.servers" = "%s"
topics = %s

[kafka.producer]
"bootstrap.servers" = "%s"
`, port, adminPort, bootstrap, names, bootstrap)
	file := filepath.Join(folder, "corespan.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	started := &node{port: port, folder: folder, process: command(needed("CORESPAN_TEST_BIN"), "serve", "--config", file)}
	started.process.Stdout, started.process.Stderr = log, log
	if err := started.process.Start(); err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 2 * time.Second}
	last := "no answer"
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", adminPort))
		if err != nil {
			last = err.Error()
			continue
		}
		_ = answer.Body.Close()
		if last = answer.Status; answer.StatusCode == http.StatusOK {
			return started, nil
		}
	}
	printed, _ := os.ReadFile(log.Name())
	started.kill()
	return nil, fmt.Errorf("corespan is not ready after 30 s (%s):\n%s", last, printed)
}

func (n *node) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
	_ = os.RemoveAll(n.folder)
}

func endpoint(port int) string { return fmt.Sprintf("ws://127.0.0.1:%d/connection/websocket", port) }

// A TCP proxy between a client and a node: the network that a test can cut.
type proxy struct {
	listener net.Listener
	target   int
	lock     sync.Mutex
	pairs    []net.Conn
	accepted int
	pulled   bool
}

func startProxy(t *testing.T, target int) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	t.Cleanup(func() { _ = listener.Close(); p.pull() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			p.pair(near)
		}
	}()
	return p
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) pair(near net.Conn) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.pulled {
		_ = near.Close()
		return
	}
	far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.target))
	if err != nil {
		_ = near.Close()
		return
	}
	p.accepted++
	p.pairs = append(p.pairs, near, far)
	pump := func(from, to net.Conn) {
		_, _ = io.Copy(to, from)
		_, _ = from.Close(), to.Close()
	}
	go pump(near, far)
	go pump(far, near)
}

// Pulls the cable: breaks every connection, with a reset and without a WebSocket close, and lets no new one through until `plug`.
func (p *proxy) pull() {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.pulled = true
	for _, connection := range p.pairs {
		_ = connection.(*net.TCPConn).SetLinger(0)
		_ = connection.Close()
	}
	p.pairs = nil
}

func (p *proxy) plug() {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.pulled = false
}
