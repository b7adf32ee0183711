import { Webhook, WebhookVerificationError } from 'standardwebhooks';

/** A message that an endpoint should get, by its event. */
export interface ExpectedMessage {
  /** `stream/version` */
  readonly id: string;
  readonly subject: string;
  readonly version: number;
}

/** A message as an endpoint got it. */
export interface ReceivedMessage {
  readonly id: string;
  readonly body: string;
  /** Whether the signature is that of one of its secrets, for this body and a time that is near. */
  readonly isGenuine: boolean;
  /** The id of the replay that marks it; empty for none. */
  readonly replay: string;
}

export interface WebhookFaults {
  /** Messages that never arrived. */
  readonly lost: readonly string[];
  /** Messages whose first arrival was after that of a later one of their subject. */
  readonly reordered: readonly string[];
  /** Messages that came again with another body, or whose body is about another event. */
  readonly altered: readonly string[];
  /** Messages whose signature is wrong. */
  readonly forged: readonly string[];
  /** Messages that nobody was to get. */
  readonly invented: readonly string[];
}

/** Reads a request to an endpoint, and verifies it as its customer would. */
export function receivedMessage(
  secrets: readonly string[],
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: string,
): ReceivedMessage {
  const text = (name: string) => String(headers[name] ?? '');
  const signed = Object.fromEntries(
    ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => [name, text(name)]),
  );
  const isGenuine = secrets.some((secret) => {
    try {
      new Webhook(secret).verify(body, signed);
      return true;
    } catch (error) {
      if (error instanceof WebhookVerificationError) return false;
      throw error;
    }
  });
  return { id: text('webhook-id'), body, isGenuine, replay: text('webhook-replay') };
}

/** Compares what an endpoint got, in the order of its arrival, with what it should get. */
export function checkWebhooks(
  expected: readonly ExpectedMessage[],
  received: readonly ReceivedMessage[],
): WebhookFaults {
  const wanted = new Map(expected.map((message) => [message.id, message]));
  const bodies = new Map<string, string>();
  const newest = new Map<string, number>();
  const faults = { reordered: [] as string[], altered: [] as string[] };
  for (const { id, body } of received) {
    const first = bodies.get(id);
    if (first === undefined) {
      bodies.set(id, body);
      const { subject, version } = wanted.get(id) ?? { subject: id, version: 0 };
      if (version < (newest.get(subject) ?? 0)) faults.reordered.push(id);
      else newest.set(subject, version);
    }
    if (body !== (first ?? body) || idOf(body) !== id) faults.altered.push(id);
  }
  return {
    ...faults,
    lost: [...wanted.keys()].filter((id) => !bodies.has(id)),
    forged: received.filter(({ isGenuine }) => !isGenuine).map(({ id }) => id),
    invented: [...bodies.keys()].filter((id) => !wanted.has(id)),
  };
}

function idOf(body: string): unknown {
  try {
    return (JSON.parse(body) as { id?: unknown } | null)?.id;
  } catch {
    return undefined;
  }
}
