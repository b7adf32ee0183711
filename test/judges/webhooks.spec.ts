import fc from 'fast-check';
import { newSecret, signaturesOf } from '@app/webhooks';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { ask, casesOf, describeJudged, expectOnlyMeant } from '../support/judges';

interface Received {
  readonly secret: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const now = Math.floor(Date.now() / 1_000);
/** Seconds that all three libraries tolerate between their clocks and the time of a message; they end at 300. */
const tolerated = 240;
const tooOld = 400;

const secret = fc
  .uint8Array({ minLength: 24, maxLength: 32 })
  .map((octets) => `whsec_${Buffer.from(octets).toString('base64')}`);
const message = fc.record({
  id: fc.stringMatching(/^(mdom|mbx)_cl[0-9a-z]{25}\/[1-9][0-9]{0,4}$/),
  timestamp: fc.integer({ min: now - tolerated, max: now + tolerated }),
  body: fc.jsonValue({ stringUnit: 'grapheme' }).map((data) => JSON.stringify({ specversion: '1.0', data })),
  older: secret,
  newer: secret,
});
type Message = typeof message extends fc.Arbitrary<infer Case> ? Case : never;

const received = (
  { id, timestamp, body }: Pick<Message, 'id' | 'timestamp' | 'body'>,
  signing: readonly string[],
  secret: string,
): Received => ({
  secret,
  body,
  headers: {
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signaturesOf(signing, id, timestamp, body),
  },
});
const altered = (each: Received, header: string, value: string): Received => ({
  ...each,
  headers: { ...each.headers, [header]: value },
});

/** What a receiver accepts. */
const genuine: Record<string, (message: Message) => Received> = {
  'by the only secret': (each) => received(each, [each.older], each.older),
  'by the old secret of two': (each) => received(each, [each.newer, each.older], each.older),
  'by the new secret of two': (each) => received(each, [each.newer, each.older], each.newer),
  'by a secret that we make': (each) => {
    const made = newSecret();
    return received(each, [made], made);
  },
};

/** What a receiver refuses. */
const forged: Record<string, (message: Message) => Received> = {
  'a wrong secret': (each) => received(each, [each.older], each.newer),
  'the old secret after the rotation': (each) => received(each, [each.newer], each.older),
  'an old timestamp': (each) => received({ ...each, timestamp: now - tooOld }, [each.older], each.older),
  'a timestamp to come': (each) => received({ ...each, timestamp: now + tooOld }, [each.older], each.older),
  'another body': (each) => ({ ...received(each, [each.older], each.older), body: `${each.body} ` }),
  'another id': (each) => altered(received(each, [each.older], each.older), 'webhook-id', `${each.id}0`),
  'another time': (each) =>
    altered(received(each, [each.older], each.older), 'webhook-timestamp', String(each.timestamp - 1)),
  'no signature': (each) => altered(received(each, [each.older], each.older), 'webhook-signature', 'v1,'),
};

const casesFrom = (makers: typeof genuine, count: number) =>
  casesOf(message, count).flatMap((each) =>
    Object.entries(makers).map(([how, make]) => ({ how, received: make(each) })),
  );

/** Verifies as the library for Node does. */
function accepts({ secret, headers, body }: Received): boolean {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

describe('the signatures of webhooks, judged by standardwebhooks for Node', () => {
  it('are accepted where they are ours, and refused where anything differs', () => {
    const differing = (makers: typeof genuine, expected: boolean) =>
      casesFrom(makers, 50).filter((each) => accepts(each.received) !== expected);
    expect(differing(genuine, true)).toEqual([]);
    expect(differing(forged, false)).toEqual([]);
  });
});

describeJudged('the signatures of webhooks, judged by standardwebhooks and svix for Python', () => {
  const judged = (makers: typeof genuine, expected: boolean) => {
    const cases = casesFrom(makers, 100);
    const said = ask<Record<'standardwebhooks' | 'svix', string>>(
      'webhooks.py',
      cases.map((each) => each.received),
    );
    const differing = cases
      .map((each, i) => ({ ...each, said: said[i]! }))
      .filter((each) => Object.values(each.said).some((verdict) => (verdict === 'accepts') !== expected));
    return { count: cases.length, differing };
  };

  it('are accepted where they are ours', () => {
    const { count, differing } = judged(genuine, true);
    expectOnlyMeant('webhooks, genuine', count, differing);
  });

  it('are refused where anything differs', () => {
    const { count, differing } = judged(forged, false);
    expectOnlyMeant('webhooks, forged', count, differing);
  });
});
