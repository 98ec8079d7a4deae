// Resumes Workflows with Argo's own function, for `python -m tests.bench` to compare with.
//
// It reads the name of a Workflow from each line of its standard input, calls ResumeWorkflow as
// `argo resume` does, and writes one line of JSON for each:
//
//	{"name": "…", "start": NANOSECONDS, "end": NANOSECONDS, "error": ""}
//
// Times are of the machine's clock, since 1970. One process and its connections serve all, which
// spares Argo what starting `argo` for each would cost.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/argoproj/argo-workflows/v4/persist/sqldb"
	"github.com/argoproj/argo-workflows/v4/pkg/client/clientset/versioned"
	"github.com/argoproj/argo-workflows/v4/util/logging"
	"github.com/argoproj/argo-workflows/v4/workflow/hydrator"
	"github.com/argoproj/argo-workflows/v4/workflow/util"
)

type result struct {
	Name  string `json:"name"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	Error string `json:"error"`
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig")
	namespace := flag.String("namespace", "", "namespace of the workflows")
	selector := flag.String("node-field-selector", "", "which gate; all that are open if empty")
	concurrency := flag.Int("concurrency", 1, "resumes at the same time")
	flag.Parse()
	if err := run(*kubeconfig, *namespace, *selector, *concurrency, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "argo-resume:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, namespace, selector string, concurrency int, in io.Reader, out io.Writer) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// Else client-go itself would hold it to five requests a second.
	config.QPS = -1
	config.UserAgent = "argo-resume"
	client, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	workflows := client.ArgoprojV1alpha1().Workflows(namespace)
	nodes := hydrator.New(sqldb.ExplosiveOffloadNodeStatusRepo)
	ctx := logging.WithLogger(context.Background(), logging.NewSlogLogger(logging.Error, logging.JSON))

	names := make(chan string)
	results := make(chan result)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for name := range names {
				start := time.Now()
				err := util.ResumeWorkflow(ctx, workflows, nodes, name, selector)
				done := result{Name: name, Start: start.UnixNano(), End: time.Now().UnixNano()}
				if err != nil {
					done.Error = err.Error()
				}
				results <- done
			}
		}()
	}

	var failed error
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			names <- lines.Text()
		}
		failed = lines.Err()
		close(names)
		workers.Wait()
		close(results)
	}()
	encoder := json.NewEncoder(out)
	for done := range results {
		if err := encoder.Encode(done); err != nil {
			return err
		}
	}
	return failed
}
