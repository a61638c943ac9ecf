// Holds one turn over a socket and one by each kind of server-sent events with the stock `openai` client.
// node turns.mjs BASE_URL KEY → one line of JSON: the text each of them said, and the numbers of the socket's frames.
import OpenAI from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const [, , baseURL, apiKey] = process.argv;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

async function overSocket() {
  const socket = new ResponsesWS(client);
  socket.send({ type: 'response.create', model: 'headstart', input: 'How warm is it?', stream_id: 'npm' });
  const said = { text: '', numbers: [], lanes: new Set(), final: '' };
  for await (const item of socket.stream()) {
    if (item.type === 'error') throw item.error;
    if (item.type !== 'message') continue;
    const event = item.message;
    said.lanes.add(event.stream_id);
    if (event.sequence_number !== undefined) said.numbers.push(event.sequence_number);
    if (event.type === 'response.output_text.delta') said.text += event.delta;
    if (event.type === 'response.completed') {
      said.final = event.response.output[0].content[0].text;
      break;
    }
  }
  socket.close();
  return { ...said, lanes: [...said.lanes] };
}

async function responsesBySse() {
  let text = '';
  const stream = await client.responses.create({ model: 'headstart', input: 'How warm is it?', stream: true });
  for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
  return text;
}

async function chatBySse() {
  let text = '';
  const messages = [{ role: 'user', content: 'How warm is it?' }];
  const stream = await client.chat.completions.create({ model: 'headstart', messages, stream: true });
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
  return text;
}

console.log(
  JSON.stringify({ socket: await overSocket(), responses: await responsesBySse(), chat: await chatBySse() }),
);
