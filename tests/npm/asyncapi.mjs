// Holds an AsyncAPI document to its specification with the official parser.
// node asyncapi.mjs FILE → one line of JSON: what it found wrong, and what the document offers.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const [, , file] = process.argv;
const { document, diagnostics } = await new Parser().parse(await readFile(file, 'utf8'));
const wrong = diagnostics
  .filter((one) => one.severity <= 1) // errors and warnings
  .map((one) => ({ severity: one.severity, code: one.code, message: one.message, path: one.path.join('.') }));
const offered = document
  ? {
      version: document.version(),
      channels: document.channels().all().map((channel) => channel.address()),
      operations: document.operations().all().map((operation) => operation.id()),
      messages: document.allMessages().all().map((message) => message.name()),
      signed: document
        .operations()
        .get('send_turns')
        .messages()
        .all()
        .every((message) => 'ce_signature' in message.headers().properties()),
    }
  : null;
console.log(JSON.stringify({ wrong, offered }));
