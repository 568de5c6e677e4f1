# A whole real node in network namespaces of its own, from registry packages: etcd, the control plane, kubelet, kube-proxy,
# containerd, CNI, CoreDNS. To be sourced; `$work` is a fresh folder, `$apps` one for what is built, `$control_plane` the binary
# with Kubernetes' components.
#
#   outside (192.168.77.2) ── veth ── node (192.168.77.1, 10.0.0.1) ── veth ── each pod (10.244.0.0/24)
#
# Everything ends with the shell that sources this, however that ends: it holds the pipe that the components read.

node_name=postern-$$
node_net=/run/netns/$node_name
outside=/run/netns/$node_name-out
apiserver=https://10.0.0.1:6443

# start NAME COMMAND...: a component in the node's network, with its log in $work/NAME.log.
start() {
  local name=$1
  shift
  nsenter --net="$node_net" "$@" <"$work/held" >>"$work/$name.log" 2>&1 9>&- &
  echo $! >"$work/$name.pid"
}

component() { start "$1" "$control_plane" "$@"; }

# until_true SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > end)); then
      echo "not after all that time: $what" >&2
      return 1
    fi
    sleep 0.2
  done
}

cluster_up() {
  mkfifo "$work/held"
  exec 9<>"$work/held"
  make_networks
  make_files
  component etcd --data-dir="$work/etcd" --unsafe-no-fsync --log-level=error \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380
  start_apiserver
  until_true 120 "the apiserver is ready" kubectl get --raw /readyz
  component kube-controller-manager --kubeconfig="$KUBECONFIG" --leader-elect=false --secure-port=0 \
    --root-ca-file="$work/apiserver/apiserver.crt" --service-account-private-key-file="$work/service-accounts.pem" \
    --controllers='*'
  component kube-scheduler --kubeconfig="$KUBECONFIG" --leader-elect=false --secure-port=0
  start containerd "$control_plane" exec containerd --config "$work/containerd.toml"
  until_true 60 "containerd answers" ctr --address "$work/containerd.sock" version
  load_image "$images/pause.tar"
  go build -C "$here/coredns" -trimpath -buildvcs=false -o "$apps/coredns" -ldflags "-s -w" .
  # At the node's address, where a kubelet may send pods as well as to a Service.
  start coredns "$control_plane" exec "$apps/coredns" -conf "$work/Corefile"
  component kubelet --config="$work/kubelet.yaml" --kubeconfig="$KUBECONFIG" --root-dir="$work/kubelet" --hostname-override=node \
    --node-ip=10.0.0.1 --cert-dir="$work/kubelet-certificates"
  component kube-proxy --config="$work/kube-proxy.yaml"
  until_true 120 "the node is ready" kubectl wait --for=condition=Ready node/node --timeout=5s
}

# Comes back when it is killed, as it would under a kubelet of its own.
start_apiserver() {
  (
    status=137
    while ((status == 137)); do
      component kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=10.0.0.1 \
        --advertise-address=10.0.0.1 --kubelet-preferred-address-types=InternalIP --cert-dir="$work/apiserver" --authorization-mode=Node,RBAC --allow-privileged \
        --token-auth-file="$work/tokens.csv" --service-cluster-ip-range=10.96.0.0/16 \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$work/service-accounts.pem" \
        --service-account-signing-key-file="$work/service-accounts.pem" --audit-policy-file="$work/audit.yaml" \
        --audit-log-path="$work/audit.jsonl"
      status=0
      wait $! || status=$?
    done
  ) &
  echo $! >"$work/keeper.pid"
}

make_networks() {
  local net
  ip netns add "$node_name"
  ip netns add "$node_name-out"
  ip link add outer netns "$node_name" type veth peer name inner netns "$node_name-out"
  for net in "$node_net" "$outside"; do
    nsenter --net="$net" ip link set lo up
    nsenter --net="$net" sysctl --quiet net.ipv4.ip_forward=1
  done
  nsenter --net="$node_net" ip addr add 10.0.0.1/32 dev lo
  nsenter --net="$node_net" ip addr add 192.168.77.1/24 dev outer
  nsenter --net="$node_net" ip link set outer up
  nsenter --net="$outside" ip addr add 192.168.77.2/24 dev inner
  nsenter --net="$outside" ip link set inner up
  nsenter --net="$outside" ip route add default via 192.168.77.1
  # What the node itself sends to Services needs a route before kube-proxy's rules see it.
  nsenter --net="$node_net" ip route add default via 192.168.77.2 src 10.0.0.1
}

make_files() {
  local token
  token=$(openssl rand -hex 16)
  export KUBECONFIG=$work/kubeconfig
  echo "$token,admin,admin,system:masters" >"$work/tokens.csv"
  openssl genrsa -traditional -out "$work/service-accounts.pem" 2048 2>/dev/null
  mkdir -p "$work/cni" "$work/logs"
  cat >"$KUBECONFIG" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: node, cluster: {server: "$apiserver", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: node, context: {cluster: node, user: admin}}]
current-context: node
EOF
  cat >"$work/audit.yaml" <<EOF
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
EOF
  cat >"$work/containerd.toml" <<EOF
version = 2
root = "$work/containerd"
state = "$work/containerd-state"
oom_score = 0
[grpc]
address = "$work/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$work/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
EOF
  # Not a bridge: what pods send each other through a Service has to pass the node's own routing to be translated back.
  cat >"$work/cni/10-pods.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "$work/cni-addresses",
    "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
  cat >"$work/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {}
containerRuntimeEndpoint: unix://$work/containerd.sock
clusterDNS: [10.0.0.1]
clusterDomain: cluster.local
podLogsDir: $work/logs
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
EOF
  cat >"$work/Corefile" <<EOF
. {
  bind 10.0.0.1
  errors
  kubernetes cluster.local {
    kubeconfig $KUBECONFIG
  }
}
EOF
  cat >"$work/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: node
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $KUBECONFIG}
conntrack: {maxPerCore: 0}
EOF
}

load_image() { ctr --address "$work/containerd.sock" --namespace k8s.io image import "$1" >/dev/null; }

# Where a client outside the pod network finds the NodePorts.
node_address() { echo 10.0.0.1; }

# from_outside COMMAND...: as such a client.
from_outside() { nsenter --net="$outside" "$@"; }

kubectl() { from_outside kubectl "$@"; }

kill_apiserver() { kill -KILL "$(cat "$work/kube-apiserver.pid")"; }

# kill_container ID
kill_container() { ctr --address "$work/containerd.sock" --namespace k8s.io task kill --signal SIGKILL "$1"; }

cluster_down() {
  local id path
  [[ -e $work/held ]] || return 0
  # First those that would start or restart something, then the containers, then what holds them.
  stop keeper kube-apiserver kubelet kube-proxy kube-scheduler kube-controller-manager
  if [[ -S $work/containerd.sock ]]; then
    for id in $(ctr --address "$work/containerd.sock" --namespace k8s.io task list --quiet); do
      ctr --address "$work/containerd.sock" --namespace k8s.io task kill --signal SIGKILL --all "$id" || true
      ctr --address "$work/containerd.sock" --namespace k8s.io task delete --force "$id" || true
    done >/dev/null 2>&1
  fi
  exec 9>&-
  stop containerd coredns etcd
  pkill -KILL --full "containerd-shim-runc-v2 .*$work" || true
  # The deepest first.
  for path in $(awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort --reverse); do umount --lazy "$path"; done
  find /sys/fs/cgroup -depth -type d -path "*/$node_name*" -exec rmdir {} + 2>/dev/null || true
  ip netns delete "$node_name-out" 2>/dev/null || true
  ip netns delete "$node_name" 2>/dev/null || true
}

# stop NAME...: asks all at once, and gives them five seconds together.
stop() {
  local name pids=()
  for name in "$@"; do
    [[ -e $work/$name.pid ]] && pids+=("$(cat "$work/$name.pid")")
  done
  kill "${pids[@]}" 2>/dev/null || true
  for _ in $(seq 50); do
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2>/dev/null || true
}
