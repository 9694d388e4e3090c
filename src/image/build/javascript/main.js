// Makes app.js the program of a container. Evaluated while the component is built; `run` is called in it.

import { getArguments, getEnvironment } from 'wasi:cli/environment@0.2.12';
import { exitWithCode } from 'wasi:cli/exit@0.2.12';
import { getStderr } from 'wasi:cli/stderr@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';

import * as app from './app.js';

// What one call of a stream takes (wasi:io/streams).
const MAX_WRITE = 4096;

function utf8(text) {
  const bytes = [];
  for (const character of text) {
    const point = character.codePointAt(0);
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
    else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    else
      bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
  }
  return new Uint8Array(bytes);
}

globalThis.TextEncoder ??= class TextEncoder {
  encode(text = '') {
    return utf8(String(text));
  }
};

function shown(value) {
  if (value instanceof Error) return `${value}\n${value.stack}`;
  if (typeof value !== 'object' || value === null) return String(value);
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? String(part) : part));
}

function writer(open) {
  return (...values) => {
    const bytes = utf8(values.map(shown).join(' ') + '\n');
    const stream = open();
    for (let at = 0; at < bytes.length; at += MAX_WRITE) {
      stream.blockingWriteAndFlush(bytes.slice(at, at + MAX_WRITE));
    }
  };
}

const [out, err] = [writer(getStdout), writer(getStderr)];
globalThis.console = { log: out, info: out, debug: out, warn: err, error: err };

if (typeof app.main !== 'function') {
  throw new Error('app.js exports no function main(); what the program does belongs there');
}

export const run = {
  run() {
    let code;
    try {
      code = app.main(getArguments().slice(1), Object.fromEntries(getEnvironment()));
    } catch (error) {
      console.error(error);
      code = 1;
    }
    if (code) exitWithCode(code & 255);
  },
};
