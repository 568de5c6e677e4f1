// Control-plane is Kubernetes in one binary, a node's parts included, so that
// tests can run the real thing without downloading release binaries or pulling
// images: the components share most of their code, and are built and cached as
// one.
//
// The first argument names the component, the rest are its own flags:
//
//	control-plane kube-apiserver --etcd-servers=...
//
// Every component ends when its standard input closes. A test holds the other
// end of that pipe, so that nothing outlives it, even when it is killed.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components are those built on Kubernetes' common command line.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: control-plane COMPONENT [FLAGS]")
	}
	// The components read os.Args themselves and expect their name first.
	os.Args = os.Args[1:]
	name, args := os.Args[0], os.Args[1:]

	if command, ok := components[name]; ok {
		onStdinClosed(func() { os.Exit(0) })
		os.Exit(cli.Run(command()))
	}
	switch name {
	case "etcd":
		onStdinClosed(func() { os.Exit(0) })
		etcdmain.Main(os.Args)
	case "exec":
		execute(args)
	case "generate-key":
		generateKey()
	default:
		fail("unknown component " + name)
	}
}

func onStdinClosed(do func()) {
	go func() {
		// An error says as surely as the end that nobody holds the pipe any more.
		_, _ = io.Copy(io.Discard, os.Stdin)
		do()
	}()
}

// execute gives the promise about standard input to a program that does not
// make it itself: a release binary of etcd or kube-apiserver.
func execute(args []string) {
	if len(args) == 0 {
		fail("usage: control-plane exec PROGRAM [ARGUMENTS]")
	}
	ctx, cancel := context.WithCancel(context.Background())
	onStdinClosed(cancel)

	// The kernel sends Pdeathsig when the forking thread ends, not the process,
	// so this goroutine has to keep its thread.
	runtime.LockOSThread()
	program := exec.CommandContext(ctx, args[0], args[1:]...)
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	program.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := program.Run(); err != nil && ctx.Err() == nil {
		fail(err.Error())
	}
}

// generateKey prints a key for signing ServiceAccount tokens: kube-apiserver
// makes its own serving certificate, but not this.
func generateKey() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		fail(err.Error())
	}
	block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := pem.Encode(os.Stdout, &block); err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
