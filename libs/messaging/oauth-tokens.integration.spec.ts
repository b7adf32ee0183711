import { startTokenServer, type TokenServer } from '../../test/support/token-server';
import { KafkaAway, TokenRefused } from './kafka-errors';
import { OAuthTokens, type OAuthSettings } from './oauth-tokens';

describe('tokens by client credentials', () => {
  let server: TokenServer;
  let now: number;

  beforeEach(async () => {
    server = await startTokenServer();
    now = Date.now();
    jest.spyOn(Date, 'now').mockImplementation(() => now);
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await server.close();
  });

  const tokens = (more: Partial<OAuthSettings> = {}, timeoutMs?: number) =>
    new OAuthTokens({ url: server.url, clientId: 'relay', clientSecret: 's3cret', ...more }, timeoutMs);
  /** Has the server number its tokens. */
  function numbered(seconds?: number): void {
    let given = 0;
    server.answer = () => ({ body: JSON.stringify({ access_token: `token-${(given += 1)}`, expires_in: seconds }) });
  }
  const requested = async (count: number) => {
    while (server.requests.length < count) await new Promise((done) => setImmediate(done));
    // The answer arrives after the request.
    await new Promise((done) => setTimeout(done, 50));
  };

  it('asks by RFC 6749: the credentials in the header, encoded, and the scope in the form', async () => {
    await tokens({ clientId: 'a:b c', clientSecret: 'ä+%', scope: 'kafka write' }).token();
    const [{ authorization, type, body }] = server.requests as [TokenServer['requests'][number]];
    expect(Buffer.from(authorization!.replace(/^Basic /, ''), 'base64').toString()).toBe('a%3Ab+c:%C3%A4%2B%25');
    expect(type).toBe('application/x-www-form-urlencoded');
    expect(Object.fromEntries(body)).toEqual({ grant_type: 'client_credentials', scope: 'kafka write' });
  });

  it('asks by the credentials that there are now', async () => {
    let clientSecret = 'first';
    const changing = new OAuthTokens(() => ({ url: server.url, clientId: 'relay', clientSecret }));
    server.answer = () => ({ status: 401, body: '{"error":"invalid_client"}' });
    await expect(changing.token()).rejects.toThrow(TokenRefused);
    clientSecret = 'second';
    await expect(changing.token()).rejects.toThrow(TokenRefused);
    expect(server.requests.map(({ authorization }) => atob(authorization!.slice('Basic '.length)))).toEqual([
      'relay:first',
      'relay:second',
    ]);
  });

  it('keeps a token, replaces it ahead of its end, and asks once for many', async () => {
    numbered(100);
    const kept = tokens();
    expect(await Promise.all([kept.token(), kept.token(), kept.token()])).toEqual(['token-1', 'token-1', 'token-1']);
    now += 59_000;
    expect(await kept.token()).toBe('token-1');
    expect(server.requests).toHaveLength(1);
    now += 2_000;
    expect(await Promise.all([kept.token(), kept.token()])).toEqual(['token-1', 'token-1']);
    await requested(2);
    expect(await kept.token()).toBe('token-2');
    now += 81_000;
    expect(await Promise.all([kept.token(), kept.token()])).toEqual(['token-3', 'token-3']);
    expect(server.requests).toHaveLength(3);
  });

  it('goes on with the token that it has while the server is away, and not after its end', async () => {
    numbered(100);
    const kept = tokens();
    await kept.token();
    server.answer = () => ({ status: 503, body: '' });
    now += 70_000;
    expect(await kept.token()).toBe('token-1');
    await requested(2);
    now += 11_000;
    await expect(kept.token()).rejects.toThrow(KafkaAway);
    await expect(kept.token()).rejects.toThrow(/answers 503/);
  });

  it('keeps a token for a minute when the server does not say how long it lives', async () => {
    numbered();
    const kept = tokens();
    await kept.token();
    now += 35_000;
    await kept.token();
    expect(server.requests).toHaveLength(1);
    now += 14_000;
    expect(await kept.token()).toBe('token-2');
  });

  it.each([400, 401, 403])('a refusal by status %i is one, with its code and without the secret', async (status) => {
    server.answer = () => ({ status, body: JSON.stringify({ error: 'invalid_client', error_description: 's3cret' }) });
    const refused = tokens().token();
    await expect(refused).rejects.toThrow(TokenRefused);
    await expect(refused).rejects.toThrow(new RegExp(`answers ${status} \\(invalid_client\\), and gives no token$`));
  });

  it.each([
    ['no JSON', 'token', /the answer holds no token/],
    ['null', 'null', /the answer holds no token/],
    ['no text', '{"access_token":{"a":1}}', /the answer holds no token/],
    ['another field of SASL', JSON.stringify({ access_token: 'a\x01auth=Bearer b' }), /the answer holds no token/],
    ['a token of 50,001 characters', JSON.stringify({ access_token: 'a'.repeat(50_001) }), /holds no token/],
    ['a token that has ended', '{"access_token":"a","expires_in":0}', /has expired already/],
    ['a lifetime that is none', '{"access_token":"a","expires_in":"soon"}', /has expired already/],
    ['an answer of 100,000 octets', JSON.stringify({ access_token: 'a', more: 'a'.repeat(100_000) }), /size/],
  ])('is away for an answer with %s', async (_, body, why) => {
    server.answer = () => ({ body });
    const given = tokens().token();
    await expect(given).rejects.toThrow(KafkaAway);
    await expect(given).rejects.toThrow(why);
  });

  it('follows no redirect, and waits no longer than it may', async () => {
    server.answer = () => ({ status: 307, body: '' });
    await expect(tokens().token()).rejects.toThrow(/answers 307/);
    server.answer = () => undefined;
    await expect(tokens({}, 100).token()).rejects.toThrow(KafkaAway);
    await server.close();
    await expect(tokens().token()).rejects.toThrow(KafkaAway);
  });
});
