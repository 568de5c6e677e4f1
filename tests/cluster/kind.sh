# The same on a kind cluster: what differs from node.sh. Needs Docker, and kind in PATH.

node_name=postern-$$

cluster_up() {
  export KUBECONFIG=$work/kubeconfig
  kind create cluster --name "$node_name" --kubeconfig "$KUBECONFIG" --wait 120s
}

load_image() { kind load image-archive --name "$node_name" "$1"; }

node_address() { docker inspect --format '{{ .NetworkSettings.Networks.kind.IPAddress }}' "$node_name-control-plane"; }

from_outside() { "$@"; }

# A static pod, which the kubelet starts again.
kill_apiserver() { docker exec "$node_name-control-plane" pkill -KILL kube-apiserver; }

kill_container() { docker exec "$node_name-control-plane" ctr --namespace k8s.io task kill --signal SIGKILL "$1"; }

cluster_down() { kind delete cluster --name "$node_name" --kubeconfig "$KUBECONFIG"; }
