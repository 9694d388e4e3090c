// Watches the others: `watch SECONDS`. Every so often it sends to the log how often the page was written and served.

import { Queue } from 'peapod:ipc/message-queue@0.1.0';
import { Semaphore } from 'peapod:ipc/semaphore@0.1.0';
import { Segment } from 'peapod:ipc/shared-memory@0.1.0';

const [NOTICE, WARNING] = [2, 3];
const [SERVED, WRITTEN] = [0, 8];

export function main([seconds]) {
  if (!(Number(seconds) > 0)) {
    console.error('usage: watch SECONDS');
    return 1;
  }
  const log = Queue.open('/log', 'write-only', { create: true }, { maxMessages: 64, messageSize: 256 });
  const counters = Segment.open('/counters', 'read-write', { create: true }, 16);
  // Never released by anybody: acquiring it takes as long as its timeout, or until the pod stops. A wait with a timeout
  // that begins after that takes its time; an attempt says at once that the pod stops.
  const pause = Semaphore.open('/pause', { create: true }, 0, false);
  console.log(`watching every ${seconds} s`);
  let before = 0;
  while (!isStopping(pause)) {
    try {
      pause.acquire(1, Number(seconds) * 1e9);
    } catch (error) {
      if (error.payload === 'ecanceled') return 0;
      if (error.payload !== 'etimedout') throw error;
    }
    const [served, written] = [SERVED, WRITTEN].map((offset) => Number(counters.loadU64(offset)));
    const severity = written > before ? NOTICE : WARNING;
    before = written;
    try {
      log.trySend(new TextEncoder().encode(`seen ${written} written, ${served} served`), severity);
    } catch (error) {
      // A log that is full is no reason to end.
      if (error.payload !== 'eagain' && error.payload !== 'ecanceled') throw error;
    }
  }
  return 0;
}

function isStopping(never) {
  try {
    never.tryAcquire(1);
    return false;
  } catch (error) {
    return error.payload === 'ecanceled';
  }
}
