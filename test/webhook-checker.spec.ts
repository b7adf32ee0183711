import { newSecret, signaturesOf } from '@app/webhooks';
import { checkWebhooks, receivedMessage, type ReceivedMessage, type WebhookFaults } from './support/webhook-checker';

const expected = (subject: string, version: number) => ({ id: `${subject}/${version}`, subject, version });
const [a1, a2, b1] = [expected('a', 1), expected('a', 4), expected('b', 1)];
const bodyOf = ({ id }: { id: string }, data = 'x') => JSON.stringify({ id, data });
const got = (message: { id: string }, changes: Partial<ReceivedMessage> = {}): ReceivedMessage => ({
  id: message.id,
  body: bodyOf(message),
  isGenuine: true,
  replay: '',
  ...changes,
});
const none: WebhookFaults = { lost: [], reordered: [], altered: [], forged: [], invented: [] };

it.each<[string, ReceivedMessage[], Partial<WebhookFaults>]>([
  ['nothing where all is well', [got(b1), got(a1), got(a2)], {}],
  ['no fault in a message that comes again, also after a later one', [got(a1), got(a2), got(b1), got(a1)], {}],
  ['a message that is lost', [got(a1), got(a2)], { lost: ['b/1'] }],
  ['a last message that is lost', [got(b1), got(a1)], { lost: ['a/4'] }],
  ['messages that are swapped', [got(a2), got(a1), got(b1)], { reordered: ['a/1'] }],
  [
    'a message that comes again with another body',
    [got(a1), got(a2), got(b1), got(b1, { body: bodyOf(b1, 'y') })],
    { altered: ['b/1'] },
  ],
  ['a body about another event', [got(a1), got(a2), got(b1, { body: bodyOf(a1) })], { altered: ['b/1'] }],
  ['a body that is cut', [got(a1), got(a2), got(b1, { body: bodyOf(b1).slice(0, -1) })], { altered: ['b/1'] }],
  ['a message that is wrongly signed', [got(a1), got(a2), got(b1, { isGenuine: false })], { forged: ['b/1'] }],
  [
    'a message that comes again, wrongly signed',
    [got(a1), got(a2), got(b1), got(b1, { isGenuine: false })],
    { forged: ['b/1'] },
  ],
  ['a message that nobody was to get', [got(a1), got(a2), got(b1), got(expected('c', 1))], { invented: ['c/1'] }],
])('the checker finds %s', (_, received, faults) =>
  expect(checkWebhooks([a1, a2, b1], received)).toEqual({ ...none, ...faults }),
);

it('a message is genuine where one of the secrets has signed this id, this time and this body', () => {
  const [older, newer, other] = [newSecret(), newSecret(), newSecret()];
  const now = Math.floor(Date.now() / 1_000);
  const body = bodyOf(a1);
  const signed = (signing: string[], changes: { time?: number; body?: string; id?: string } = {}) => {
    const headers = {
      'webhook-id': changes.id ?? a1.id,
      'webhook-timestamp': String(changes.time ?? now),
      'webhook-signature': signaturesOf(signing, a1.id, now, body),
    };
    return receivedMessage([older, newer], headers, changes.body ?? body).isGenuine;
  };
  expect([signed([older]), signed([newer]), signed([newer, older]), signed([other, older])]).toEqual(
    Array(4).fill(true),
  );
  expect([
    signed([other]),
    signed([older], { time: now + 1 }),
    signed([older], { time: now - 600 }),
    signed([older], { body: `${body} ` }),
    signed([older], { id: a2.id }),
    receivedMessage([older], {}, body).isGenuine,
  ]).toEqual(Array(6).fill(false));
});
