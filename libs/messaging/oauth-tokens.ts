import { currentOf, type Current } from '@app/runtime';
import { KafkaAway, TokenRefused } from './kafka-errors';

export interface OAuthSettings {
  readonly url: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope?: string;
}

interface Token {
  readonly value: string;
  /** When a new one is requested although this one is still valid; milliseconds since the epoch. */
  readonly refreshAt: number;
  /** When it is used no longer; milliseconds since the epoch. */
  readonly endsAt: number;
}

/** The most octets of an answer. */
const maxResponseSize = 65_536;
/** The most characters of a token: a broker takes no longer one with its own settings. */
const longestToken = 50_000;
/** The form of a token (RFC 6750 section 2.1). Anything else could add fields to the message of SASL. */
const tokenForm = /^[\w.~+/-]+=*$/;
/** Seconds for which a token counts as valid when the server does not say. */
const usualLifetime = 60;
/** The statuses by which a server refuses the client or its scope (RFC 6749 section 5.2). */
const refusing: ReadonlySet<number> = new Set([400, 401, 403]);

/**
 * Gets tokens by client credentials (RFC 6749 section 4.4). The newest one is kept, and is replaced ahead of its end: a
 * server that is away for a while is not noticed.
 */
export class OAuthTokens {
  private newest: Token | undefined;
  private requested: Promise<Token> | undefined;

  /** @param timeoutMs milliseconds for one request for a token. */
  constructor(
    private readonly settings: Current<OAuthSettings>,
    private readonly timeoutMs = 10_000,
  ) {}

  /**
   * Gives a token that is valid for a while.
   *
   * @throws {TokenRefused} when the server refuses the client.
   * @throws {KafkaAway} when it gives no token for another reason.
   */
  async token(): Promise<string> {
    const { newest } = this;
    const now = Date.now();
    if (!newest || now >= newest.endsAt) return (await this.refresh()).value;
    if (now >= newest.refreshAt) this.refresh().catch(() => undefined);
    return newest.value;
  }

  private refresh(): Promise<Token> {
    return (this.requested ??= requestToken(currentOf(this.settings), this.timeoutMs)
      .then((token) => (this.newest = token))
      .finally(() => (this.requested = undefined)));
  }
}

async function requestToken({ url, clientId, clientSecret, scope }: OAuthSettings, timeoutMs: number): Promise<Token> {
  const now = Date.now();
  const credentials = [clientId, clientSecret].map(formEncoded).join(':');
  // Every consumer loads this file, and few use such tokens: undici takes a fifth of the start of an app.
  const { Agent, request } = await import('undici');
  const dispatcher = new Agent({ maxResponseSize });
  try {
    const { statusCode, body } = await request(url, {
      dispatcher,
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', ...(scope && { scope }) }).toString(),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const answer = await body.text();
    if (statusCode === 200) return tokenOf(answer, now);
    const said = `${url} answers ${statusCode}${errorIn(answer)}`;
    throw refusing.has(statusCode) ? new TokenRefused(`${said}, and gives no token`) : new Error(said);
  } catch (error) {
    if (error instanceof TokenRefused) throw error;
    throw new KafkaAway(`No token for Kafka: ${(error as Error).message}`, { cause: error });
  } finally {
    await dispatcher.destroy();
  }
}

/** Encodes a part of the credentials as section 2.3.1 of RFC 6749 wants it. */
const formEncoded = (text: string): string => new URLSearchParams([['', text]]).toString().slice(1);

/** @throws {Error} when the answer holds no token that can be sent. */
function tokenOf(answer: string, now: number): Token {
  const { access_token: value, expires_in: given } = fieldsOf(answer);
  if (typeof value !== 'string' || value.length > longestToken || !tokenForm.test(value))
    throw new Error('the answer holds no token');
  const lifetime = Number(given ?? usualLifetime);
  if (!(lifetime > 0)) throw new Error('the token has expired already');
  const milliseconds = Math.min(lifetime, 86_400) * 1_000;
  // A broker ends a session with its token, so that one that is shown must have some of its life before it.
  return { value, refreshAt: now + milliseconds * 0.6, endsAt: now + milliseconds * 0.8 };
}

/** Gives the error code of an answer (RFC 6749 section 5.2) for a message; empty when there is none. */
function errorIn(answer: string): string {
  const { error } = fieldsOf(answer);
  return typeof error === 'string' && /^[\x20-\x7e]{1,100}$/.test(error) ? ` (${error})` : '';
}

function fieldsOf(answer: string): Record<string, unknown> {
  try {
    return (JSON.parse(answer) ?? {}) as Record<string, unknown>;
  } catch {
    return {};
  }
}
