//! The API of running pods: HTTP/1.1 and JSON on a unix socket, in the shape of the Kubernetes API.
//!
//! ```text
//!  peapod ss ─► client ──HTTP──► server ─► Pods ─┬─► supervisor of `peapod run`: its one pod
//!                                                └─► (an agent: all pods of the node)
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/pods`, `GET /api/v1/namespaces/{namespace}/pods` | a PodList |
//! | `GET /api/v1/namespaces/{namespace}/pods/{name}` | the Pod with its status of now |
//! | `GET /api/v1/namespaces/{namespace}/pods/{name}/network` | a [`types::PodNetwork`]: sockets and counters |
//! | `GET …/pods/{name}/ipc` | a [`types::PodIpc`]: what its containers share |
//! | `DELETE …/pods/{name}/ipc/{kind}/{object}` | a metav1.Status; the object's name is removed |
//! | `GET …/pods/{name}/timeline` | a [`types::Timeline`]: when the steps of its start happened |
//! | `GET /api/v1/events`, `GET /api/v1/namespaces/{namespace}/events`, `?fieldSelector=` | an EventList |
//! | `PATCH …/pods/{name}/status` | the Pod with other conditions; none of peapod's own can be set |
//! | `PATCH …/pods/{name}/resize` | the Pod with other resources |
//! | `PATCH …/pods/{name}` | the Pod with other labels and annotations; applied, with other resources, too |
//! | `GET /api/v1/configmaps`, `GET, POST /api/v1/namespaces/{namespace}/configmaps` | a ConfigMapList; the new ConfigMap |
//! | `GET, PUT, PATCH, DELETE …/configmaps/{name}` | the ConfigMap as the pod has it |
//! | `…/secrets` and below | the same of Secrets |
//! | `DELETE …/pods/{name}`, `?gracePeriodSeconds=` | the Pod, which ends; grace may only shrink |
//! | a list with `?labelSelector=` or `?fieldSelector=` | those of the list that are selected |
//! | a `PATCH` of a Pod, ConfigMap or Secret with `?dryRun=All` | what it would be; nothing changes |
//! | anything else | a metav1.Status with `code`, `reason` and `message` |
//!
//! The paths name the pod although the socket of `peapod run` has only one, so that whoever serves many can offer
//! the same API, and more subresources of a pod (`exec`, `ephemeralcontainers`, `events`) have their place. A
//! connection carries one request. [`server`] knows HTTP and nothing of how pods run; that is behind
//! [`server::Pods`].
//!
//! The socket of a pod is `<run>/pods/<uid>/control.sock`, mode 0600 in a directory of mode 0700: whoever may
//! connect is the user who runs the pod, or root. It goes with that directory. See [`socket`].

pub mod apply;
pub mod client;
pub mod events;
pub mod objects;
pub mod patch;
pub mod selection;
pub mod server;
pub mod socket;
pub mod types;
pub mod update;
