//! What a pod is made of when its worker takes it over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::container::log::Logger;
use crate::container::message::Messages;
use crate::container::runner::Program;
use crate::descriptors::Descriptors;
use crate::engine::EpochHandle;
use crate::ipc::Ipc;
use crate::keyvalue::KeyValue;
use crate::net::{Recording, Stack};
use crate::pod::backoff::BackoffPolicy;
use crate::pod::control;
use crate::pod::status::Facts;
use crate::pod::timeline::Timeline;
use crate::spec::Pod;
use crate::spec::environment::Surroundings;
use crate::volume::Volumes;

/// What the pod is made of, ready to run.
pub struct Parts {
    /// The pod.
    pub spec: Arc<Pod>,
    /// The linked image of each container, by container name.
    pub programs: BTreeMap<String, Program>,
    /// The pod's volumes, mounted.
    pub volumes: Volumes,
    /// What variables say of the pod that it does not say itself.
    pub around: Surroundings,
    /// Where the containers leave their last words.
    pub messages: Messages,
    /// The pod's network.
    pub stack: Arc<Stack>,
    /// What its containers share besides.
    pub ipc: Arc<Ipc>,
    /// The process's file descriptors.
    pub descriptors: Descriptors,
    /// Its key-value stores.
    pub key_value: Arc<KeyValue>,
    /// Where output goes.
    pub logger: Logger,
    /// The clock that makes guests yield.
    pub epochs: EpochHandle,
    /// What the status says beyond the state.
    pub facts: Facts,
    /// How restarts are delayed.
    pub backoff: BackoffPolicy,
    /// Where the log files are.
    pub log_dir: PathBuf,
    /// How often the use of the disk is looked at.
    pub storage_period: Duration,
    /// What the logger has to tell the user.
    pub troubles: mpsc::Receiver<control::Event>,
    /// The capture of the memory plane, if there is one.
    pub recording: Option<Recording>,
    /// When what happened.
    pub timeline: Timeline,
    /// Whether the supervisor wants that when the pod has ended.
    pub tells_timeline: bool,
}
