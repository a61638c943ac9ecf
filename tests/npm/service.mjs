// A service in JavaScript, written from docs/asyncapi.json and docs/services.md alone: it owns a skill on the bus,
// submits a turn that needs it, publishes a fact, and reads the answer from the log.
// node service.mjs BOOTSTRAP PARTITIONS API_KEY SIGNING_KEY TENANT AGENT → one line of JSON: what it saw.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';

const [, , bootstrap, partitions, apiKey, signingKey, tenant, agent] = process.argv;
const NAME = 'orders-js';
const USER = 'ada';
const kafka = new Kafka({ clientId: NAME, brokers: [bootstrap], logLevel: logLevel.NOTHING });
const producer = kafka.producer({ idempotent: true });

// ---- ids: `<prefix>_<partition, 4 hex><UUIDv7, 32 hex>` ------------------------------------------------------------
function newId(prefix, partition) {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return `${prefix}_${partition.toString(16).padStart(4, '0')}${bytes.toString('hex')}`;
}
const partitionOf = (id) => parseInt(id.split('_')[1].slice(0, 4), 16);

// ---- records: CloudEvents in binary mode, signed with the service's key --------------------------------------------
function signature(type, id, topic, key, value) {
  const mac = createHmac('sha256', createHash('sha256').update(apiKey).digest());
  for (const part of [type, id, topic, key, value].map((text) => Buffer.from(text))) {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(part.length);
    mac.update(size).update(part);
  }
  return mac.digest('hex');
}

async function send(topic, partition, key, type, id, event, signed) {
  const value = JSON.stringify(event);
  const headers = { ce_specversion: '1.0', ce_type: type, ce_id: id, ce_source: `service/${NAME}` };
  if (signed) {
    headers.ce_keyid = `key_${apiKey.split('_')[1]}`;
    headers.ce_signature = signature(type, id, topic, key, value);
  }
  await producer.send({ topic, acks: -1, messages: [{ partition, key, value, headers }] });
}

// ---- who a call is for: the Headstart-Context of the request -------------------------------------------------------
function verifiedContext(header, value) {
  const [text, mac] = header.split('.');
  const expected = createHmac('sha256', signingKey).update(text).digest();
  if (!timingSafeEqual(Buffer.from(mac, 'base64url'), expected)) throw new Error('forged context');
  const context = JSON.parse(Buffer.from(text, 'base64url'));
  if (context.body_sha256 !== createHash('sha256').update(value).digest('hex')) throw new Error('another request');
  return context;
}

// ---- the skill -----------------------------------------------------------------------------------------------------
const manifest = {
  name: 'look_up_order', version: '1', owner: NAME, bus: true, tenants: [tenant], effect: 'pure', timeout_ms: 20000,
  description: 'Looks up an order by its number.',
  parameters: {
    type: 'object', required: ['number'], additionalProperties: false,
    properties: { number: { type: 'string' }, detail: { type: 'string', default: 'short' } },
  },
  fire_on: ['number'],
  returns: { type: 'object', required: ['state'], properties: { state: { type: 'string' } } },
  examples: ['where is my order A-17'],
};
const calls = [];

async function answerCalls() {
  const consumer = kafka.consumer({ groupId: `service.${NAME}`, sessionTimeout: 6000 });
  await consumer.connect();
  await consumer.subscribe({ topic: 'calls', fromBeginning: true });
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
  await consumer.run({
    eachMessage: async ({ message }) => {
      const { ce_type: type, ce_subject: skill, ce_id: id } = message.headers;
      if (`${skill}`.split('@')[0] !== manifest.name || `${type}` !== 'headstart.call.requested.v1') return;
      const request = JSON.parse(message.value);
      if (Date.now() > request.deadline_at_ms) return;
      const context = verifiedContext(`${message.headers['headstart-context']}`, message.value);
      calls.push({ arguments: request.arguments, user: context.user, tenant: context.tenant });
      const { turn, call, claim, key } = request;
      const result = JSON.stringify({ state: `order ${request.arguments.number} is on its way` });
      const event = { turn, call, claim, key, tenant: request.tenant, at_ms: Date.now(), result };
      const place = partitionOf(turn);
      await send('turns', place, request.conversation, 'headstart.call.result.v1', `${id}/result`, event, true);
    },
  });
  await joined;
  return consumer;
}

async function register() {
  const at_ms = Date.now();
  const id = `${manifest.name}@${manifest.version}`;
  await send('skills', 0, id, 'headstart.skill.registered.v1', `${NAME}/${id}`, { manifest, at_ms }, false);
  const pointed = { name: manifest.name, version: manifest.version, at_ms };
  await send('skills', 0, manifest.name, 'headstart.skill.pointed.v1', `${NAME}/point/${id}`, pointed, false);
}

// ---- the log: facts of one conversation, each once, in order -------------------------------------------------------
const facts = [];
const waiting = [];
const seen = new Set();

async function readLog() {
  const consumer = kafka.consumer({ groupId: `service.${NAME}.log`, sessionTimeout: 6000 });
  await consumer.connect();
  await consumer.subscribe({ topic: 'events', fromBeginning: true });
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
  await consumer.run({
    eachMessage: async ({ message }) => {
      const id = `${message.headers.ce_id}`;
      if (seen.has(id)) return;
      seen.add(id);
      facts.push({ id, type: `${message.headers.ce_type}`, key: `${message.key}`, value: JSON.parse(message.value) });
      for (const look of waiting.splice(0)) look();
    },
  });
  await joined;
  return consumer;
}

async function fact(fits) {
  for (;;) {
    const found = facts.find(fits);
    if (found) return found;
    await new Promise((resolve) => waiting.push(resolve));
  }
}

// ---- what it does --------------------------------------------------------------------------------------------------
await producer.connect();
await register();
const consumers = await Promise.all([answerCalls(), readLog()]);
console.log(JSON.stringify({ ready: true }));
await new Promise((resolve) => process.stdin.once('data', resolve)); // told to go on
process.stdin.destroy(); // an open one would keep the process alive

const conversation = newId('conv', Math.floor(Math.random() * Number(partitions)));
const turn = newId('turn', partitionOf(conversation));
const submit = {
  turn, conversation, tenant, user: USER, at_ms: Date.now(), opens: true, origin: 'service',
  input: [{ text: 'Where is my order A-17?' }], options: { agent },
};
await send('turns', partitionOf(conversation), conversation, 'headstart.turn.submit.v1', turn, submit, true);
const end = await fact((one) => /^headstart\.turn\.(completed|incomplete|cancelled|failed)\.v1$/.test(one.type)
  && one.id.startsWith(`${turn}/turn/`));
const of = (type) => facts.filter((one) => one.id.startsWith(`${turn}/`) && one.type === type).map((one) => one.value);

const happened = {
  conversation, tenant, user: USER, kind: 'order.shipped', text: 'Order A-17 has left.', at_ms: Date.now(),
  data: { order: 'A-17' },
};
await send('turns', partitionOf(conversation), conversation, 'headstart.fact.publish.v1', 'shipped-A-17', happened, true);
const published = await fact((one) => one.type === 'headstart.fact.published.v1' && one.key === conversation);

for (const consumer of consumers) await consumer.disconnect();
await producer.disconnect();
const said = {
  turn, end: end.type, calls, published: published.value,
  answer: of('headstart.answer.delta.v1').map((delta) => delta.text).join(''),
  fired: of('headstart.call.fired.v1'), answered: of('headstart.call.answered.v1'),
};
console.log(JSON.stringify(said));
