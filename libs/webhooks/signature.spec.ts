import { Webhook } from 'standardwebhooks';
import { signaturesOf } from './signature';

const [older, newer] = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', `whsec_${Buffer.alloc(32, 7).toString('base64')}`];
const body = '{"type":"domain.verified","data":{"name":"bücher.example"}}';
const now = Math.floor(Date.now() / 1_000);
const headersOf = (signature: string, timestamp = now) => ({
  'webhook-id': 'mdom_1/12',
  'webhook-timestamp': String(timestamp),
  'webhook-signature': signature,
});

it('signs as the public library verifies', () => {
  const signature = signaturesOf([older], 'mdom_1/12', now, body);
  expect(new Webhook(older).verify(body, headersOf(signature))).toEqual(JSON.parse(body));
  expect(signaturesOf([older], 'mdom_1/12', now, Buffer.from(body))).toBe(signature);
  expect(() => new Webhook(newer).verify(body, headersOf(signature))).toThrow();
});

it('signs the id, the time and each octet of the body', () => {
  const signature = signaturesOf([older], 'mdom_1/12', now, body);
  expect(() => new Webhook(older).verify(body, headersOf(signature, now + 1))).toThrow();
  expect(() => new Webhook(older).verify(`${body} `, headersOf(signature))).toThrow();
  expect(signaturesOf([older], 'mdom_1/13', now, body)).not.toBe(signature);
});

it('signs with both secrets while one is being replaced', () => {
  const signature = signaturesOf([newer, older], 'mdom_1/12', now, body);
  expect(signature.split(' ')).toHaveLength(2);
  for (const secret of [older, newer])
    expect(new Webhook(secret).verify(body, headersOf(signature))).toEqual(JSON.parse(body));
});
