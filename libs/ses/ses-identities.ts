import { setTimeout as delay } from 'node:timers/promises';
import {
  AlreadyExistsException,
  CreateEmailIdentityCommand,
  DeleteEmailIdentityCommand,
  GetEmailIdentityCommand,
  ListEmailIdentitiesCommand,
  NotFoundException,
  PutEmailIdentityDkimSigningAttributesCommand,
  SESv2Client,
  SESv2ServiceException,
  type VerificationInfo,
} from '@aws-sdk/client-sesv2';
import { z } from 'zod';
import { backOffMs } from '@app/runtime';
import { TokenBucket } from './token-bucket';

/** The tag by which an identity is known as ours: its value is the domain's id. */
export const domainIdTag = 'sendmux:domain-id';

/** `DkimAttributes.Status`, in the lower case of our API. */
export type SesStatus = 'pending' | 'success' | 'failed' | 'temporary_failure' | 'not_started';

export interface SesIdentity {
  readonly name: string;
  /** Value of our tag; null when the identity does not carry it. */
  readonly domainId: string | null;
  readonly status: SesStatus;
  /** The three Easy DKIM tokens; none where somebody has given the identity keys of his own, or no DKIM at all. */
  readonly tokens: readonly string[];
  /** Zone of the CNAME targets. */
  readonly hostedZone: string;
  readonly region: string;
  readonly verification: SesVerification;
}

/** `VerificationInfo` of `GetEmailIdentity`: how SES explains the status. Null where it says nothing. */
export interface SesVerification {
  /** `ErrorType` in lower case, such as `host_not_found`, `type_not_found`, `invalid_value`, `dns_server_error`. */
  readonly errorType: string | null;
  readonly lastCheckedAt: Date | null;
  readonly lastSuccessAt: Date | null;
}

/** SES said no, for good: asking again will not help. */
export class SesRefused extends Error {
  override readonly name = 'SesRefused';
}

/** SES did not answer, or not in a way that can be believed. Asking again may help. */
export class SesUnavailable extends Error {
  override readonly name = 'SesUnavailable';
}

export interface SesOptions {
  readonly region: string;
  /** Absent: the SDK's own. */
  readonly endpoint?: string;
  /** Identity calls of this process; SES allows about one a second. */
  readonly callsPerSecond: number;
  /** A single call that takes longer was not answered, in milliseconds. */
  readonly timeoutMs: number;
}

/** AWS gives each request an id, and tells it in every answer. */
interface Answered {
  readonly $metadata: { readonly requestId?: string };
}

interface Call {
  /** Gives up waiting: for a turn, for a throttled SES, for an answer. */
  readonly signal?: AbortSignal;
}

const statuses = {
  PENDING: 'pending',
  SUCCESS: 'success',
  FAILED: 'failed',
  TEMPORARY_FAILURE: 'temporary_failure',
  NOT_STARTED: 'not_started',
} as const;
const status = z.enum(Object.keys(statuses) as (keyof typeof statuses)[]);
const hostName = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/i;
const easyDkim = z.object({
  Status: status,
  Tokens: z.array(z.string().regex(/^[a-z0-9]+$/i)).length(3),
  SigningHostedZone: z.string().regex(hostName).default('dkim.amazonses.com'),
});
/** What others may have made of an identity: its own keys (BYODKIM), whose only token is a selector, or none. */
const otherDkim = z
  .union([
    z.object({ Status: status, SigningAttributesOrigin: z.literal('EXTERNAL') }),
    z.object({ Status: status.extract(['NOT_STARTED']) }),
  ])
  .transform(({ Status }) => ({ Status, Tokens: [], SigningHostedZone: 'dkim.amazonses.com' }));
const page = z.object({
  EmailIdentities: z.array(z.object({ IdentityName: z.string(), VerificationStatus: status })),
  NextToken: z.string().optional(),
});

const throttles = new Set(['TooManyRequestsException', 'ThrottlingException', 'Throttling', 'RequestLimitExceeded']);
/** Of status 4xx, but none of the caller's doing. */
const troubles = new Set(['ConcurrentModificationException', 'RequestTimeout', 'RequestTimeoutException']);
const throttleBackOff = { baseMs: 500, capMs: 8_000 };

/**
 * The domain identities of Amazon SES v2, each tagged with the id of the domain that asked for it. Calls wait for their
 * turn and for a throttled SES as long as the caller does.
 *
 * Every method throws `SesUnavailable` when SES gave no answer that can be believed, and `SesRefused` when it said no.
 */
export class SesIdentities {
  private readonly client: SESv2Client;
  private readonly turns: TokenBucket;

  constructor(private readonly options: SesOptions) {
    this.turns = new TokenBucket(options.callsPerSecond);
    const timeout = options.timeoutMs;
    this.client = new SESv2Client({
      region: options.region,
      ...(options.endpoint && { endpoint: options.endpoint }),
      // One mechanism decides about trying again, and it is not the SDK's, which gives up on a throttle.
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: Math.min(timeout, 3_000),
        requestTimeout: timeout,
        throwOnRequestTimeout: true,
      },
    });
  }

  /**
   * `CreateEmailIdentity` with Easy DKIM and our tag. An identity that is there already is returned as it is, whosever it
   * may be: the tag tells.
   */
  async create(name: string, domainId: string, { signal }: Call = {}): Promise<SesIdentity> {
    const Tags = [{ Key: domainIdTag, Value: domainId }];
    const created = await this.call(
      (options) => this.client.send(new CreateEmailIdentityCommand({ EmailIdentity: name, Tags }), options),
      { signal, expected: AlreadyExistsException },
    );
    if (created) return this.identity(name, domainId, easyDkim.safeParse(created.DkimAttributes));
    const existing = await this.get(name, { signal });
    if (!existing) throw new SesUnavailable(`SES has ${name} and has it not: it is changed by somebody else right now`);
    if (existing.domainId === domainId && existing.tokens.length !== 3)
      throw new SesUnavailable(`SES has ${name} without Easy DKIM: it was changed by hand`);
    return existing;
  }

  /** `GetEmailIdentity`; null when there is none. */
  async get(name: string, { signal }: Call = {}): Promise<SesIdentity | null> {
    const found = await this.call(
      (options) => this.client.send(new GetEmailIdentityCommand({ EmailIdentity: name }), options),
      { signal, expected: NotFoundException },
    );
    if (!found) return null;
    const tag = found.Tags?.find(({ Key }) => Key === domainIdTag);
    const dkim = easyDkim.or(otherDkim).safeParse(found.DkimAttributes);
    return this.identity(name, tag?.Value ?? null, dkim, found.VerificationInfo);
  }

  /**
   * `PutEmailIdentityDkimSigningAttributes` with Easy DKIM: SES begins anew to look for the records, for up to 72 hours. To be
   * asked for an identity that has Easy DKIM: its key length, and with it the tokens, stay as they are. Repeating it is harmless.
   *
   * @returns the tokens; null when there is no such identity.
   */
  async restartDkim(name: string, { signal }: Call = {}): Promise<readonly string[] | null> {
    const input = { EmailIdentity: name, SigningAttributesOrigin: 'AWS_SES' as const };
    const restarted = await this.call(
      (options) => this.client.send(new PutEmailIdentityDkimSigningAttributesCommand(input), options),
      { signal, expected: NotFoundException },
    );
    return restarted ? (restarted.DkimTokens ?? []) : null;
  }

  /** `DeleteEmailIdentity`; one that is not there is deleted. */
  async delete(name: string, { signal }: Call = {}): Promise<void> {
    await this.call((options) => this.client.send(new DeleteEmailIdentityCommand({ EmailIdentity: name }), options), {
      signal,
      expected: NotFoundException,
    });
  }

  /**
   * `ListEmailIdentities`: each identity of the account with its status, a thousand a call. A page that SES did not answer with is
   * asked for twice more, but the first: whoever has got far does not begin anew for one fault.
   */
  async *list({ signal }: Call = {}): AsyncGenerator<{ name: string; status: SesStatus }, void> {
    let next: string | undefined;
    let faults = 0;
    do {
      try {
        const { EmailIdentities, NextToken } = await this.page(next, signal);
        for (const { IdentityName, VerificationStatus } of EmailIdentities)
          yield { name: IdentityName, status: statuses[VerificationStatus] };
        next = NextToken;
        faults = 0;
      } catch (error) {
        const isLast = next === undefined || ++faults > 2 || signal?.aborted;
        if (isLast || !(error instanceof SesUnavailable)) throw error;
        await delay(backOffMs(throttleBackOff, faults), undefined, { signal }).catch(() => undefined);
      }
    } while (next);
  }

  private async page(NextToken: string | undefined, signal: AbortSignal | undefined): Promise<z.output<typeof page>> {
    const answer = await this.call(
      (options) => this.client.send(new ListEmailIdentitiesCommand({ PageSize: 1_000, NextToken }), options),
      { signal },
    );
    const parsed = page.safeParse(answer);
    if (!parsed.success) throw new SesUnavailable('SES answered with a page that cannot be read');
    return parsed.data;
  }

  close(): void {
    this.client.destroy();
  }

  private identity(
    name: string,
    domainId: string | null,
    dkim: z.ZodSafeParseResult<z.output<typeof easyDkim>>,
    verification?: VerificationInfo,
  ): SesIdentity {
    if (!dkim.success) throw new SesUnavailable(`SES answered for ${name} without three DKIM tokens and a status`);
    const { Status, Tokens, SigningHostedZone } = dkim.data;
    return {
      name,
      domainId,
      status: statuses[Status],
      tokens: Tokens,
      hostedZone: SigningHostedZone,
      region: this.options.region,
      verification: {
        errorType: verification?.ErrorType?.toLowerCase() ?? null,
        lastCheckedAt: verification?.LastCheckedTimestamp ?? null,
        lastSuccessAt: verification?.LastSuccessTimestamp ?? null,
      },
    };
  }

  /**
   * SES's answer, or undefined for the error that is expected. A throttled call is made again for as long as the caller
   * waits; any other trouble is the caller's to repeat.
   */
  private async call<Answer extends Answered>(
    send: (options: { abortSignal: AbortSignal }) => Promise<Answer>,
    { signal, expected }: Call & { expected?: new (...args: never[]) => SESv2ServiceException },
  ): Promise<Answer | undefined> {
    try {
      for (let throttled = 1; ; throttled++) {
        await this.turns.take(signal);
        // The handler's own time-out ends with the head of the answer; its body can hang too.
        const late = AbortSignal.timeout(this.options.timeoutMs);
        try {
          const answer = await send({ abortSignal: signal ? AbortSignal.any([signal, late]) : late });
          // A proxy's page, say, with status 200: the SDK does not look into an answer that has no fields.
          if (!answer.$metadata.requestId) throw new Error('what answered is not SES: there is no request id');
          return answer;
        } catch (error) {
          if (expected && error instanceof expected && error.$metadata.requestId) return undefined;
          if (!isThrottle(error)) throw error;
          await delay(backOffMs(throttleBackOff, throttled), undefined, { signal });
        }
      }
    } catch (error) {
      throw translate(error as Error);
    }
  }
}

const isThrottle = (error: unknown): boolean =>
  error instanceof SESv2ServiceException && (throttles.has(error.name) || error.$metadata.httpStatusCode === 429);

/** A refusal is believed only if it is SES's own: with a status of 4xx, a name and a request id. */
function translate(error: Error): Error {
  if (!(error instanceof SESv2ServiceException))
    return new SesUnavailable(`SES gave no answer (${error.message})`, { cause: error });
  const { httpStatusCode = 500, requestId } = error.$metadata;
  const own = requestId !== undefined && error.name.length > 0 && !/^(Error|Unknown.*|SyntaxError)$/.test(error.name);
  const refused = own && httpStatusCode >= 400 && httpStatusCode < 500 && !troubles.has(error.name);
  const said = `SES: ${error.message || error.name}`;
  return refused ? new SesRefused(said, { cause: error }) : new SesUnavailable(said, { cause: error });
}
