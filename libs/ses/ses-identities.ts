import { setTimeout as delay } from 'node:timers/promises';
import {
  GetAccountCommand,
  GetEmailIdentityCommand,
  ListEmailIdentitiesCommand,
  NotFoundException,
  SESv2Client,
  type SESv2ServiceException,
  type DkimAttributes,
  type GetEmailIdentityCommandOutput,
} from '@aws-sdk/client-sesv2';
import { fromTemporaryCredentials } from '@aws-sdk/credential-providers';
import { Logger } from '@nestjs/common';
import { z } from 'zod';
import type { SesDkimStatus, SesMailFromStatus, SesStanding } from '@app/mail-records';
import { backOffMs, Counter, CounterpartAlarm, defaultShard, type SesShard } from '@app/runtime';
import { span } from '@app/tracing';
import { ConnectionAhead } from './connection-ahead';
import { isKnownSesError, sesFault, type SesFault, type SesOperation } from './ses-fault';
import type { CallOutcomes } from './shard-health';
import type { Priority, Turns } from './turns';

/** The tag that marks an identity as ours; its value is the domain's id. */
export const domainIdTag = 'sendmux:domain-id';

/**
 * Value of the tag of an identity that others have made and an operator has adopted: it is that of whoever holds the
 * name.
 */
export const adoptedTag = 'adopted';

/** Whether an identity is that of a domain: by its tag, or because the domain holds the name of an adopted one. */
export const belongsTo = (identity: Pick<SesIdentity, 'domainId'>, domainId: string): boolean =>
  identity.domainId === domainId || identity.domainId === adoptedTag;

/** The MAIL FROM domain of an identity, with `MailFromDomainStatus` in lower case. */
export interface SesMailFrom {
  readonly domain: string;
  readonly status: SesMailFromStatus;
}

export interface SesIdentity {
  readonly name: string;
  /** Value of our tag: the id of a domain, or `adoptedTag`; null when the identity does not carry it. */
  readonly domainId: string | null;
  readonly status: SesDkimStatus;
  /** The three Easy DKIM tokens; none where the identity has keys of its own (BYODKIM), or no DKIM at all. */
  readonly tokens: readonly string[];
  /** Zone of the CNAME targets. */
  readonly hostedZone: string;
  readonly region: string;
  /** Null where it has none: SES then sends with a name of its own. */
  readonly mailFrom: SesMailFrom | null;
  /** The configuration set that its mail uses unless it names another one; null where there is none. */
  readonly configurationSet: string | null;
  /** Null where the answer does not have it. */
  readonly standing: SesStanding | null;
  readonly verification: SesVerification;
}

/** `VerificationInfo` of `GetEmailIdentity`: how SES explains the status. Null where it gives no explanation. */
export interface SesVerification {
  /** `ErrorType` in lower case, such as `host_not_found`, `type_not_found`, `invalid_value`, `dns_server_error`. */
  readonly errorType: string | null;
  readonly lastCheckedAt: Date | null;
  readonly lastSuccessAt: Date | null;
}

/** What `GetAccount` says of an account in a Region. */
export interface SesAccount {
  /** Whether it may send at all now. */
  readonly isEnabled: boolean;
  /** Whether it may send to addresses that nobody has verified. */
  readonly isInProduction: boolean;
  /** `EnforcementStatus`, such as `HEALTHY`, `PROBATION` or `SHUTDOWN`. */
  readonly enforcement: string | undefined;
  /** The most mails in 24 hours, and in a second; -1 for any number, undefined where SES does not say. */
  readonly daily: number | undefined;
  readonly aSecond: number | undefined;
}

/** SES does not accept the domain's name. Asking again will not help. */
export class SesRefused extends Error {
  override readonly name = 'SesRefused';
}

/**
 * SES refuses what this installation asks, because of its credentials, permissions, quotas or account. An operator has
 * been alarmed; asking again helps once he has acted.
 */
export class SesDenied extends Error {
  override readonly name = 'SesDenied';

  /** @param operation that is refused. */
  constructor(
    message: string,
    options?: ErrorOptions,
    readonly operation?: SesOperation,
  ) {
    super(message, options);
  }
}

/** SES did not answer, or not in a way that can be believed. Asking again may help. */
export class SesUnavailable extends Error {
  override readonly name = 'SesUnavailable';
}

/** The shard that is asked, and how. */
export interface SesOptions extends Pick<
  SesShard,
  'region' | 'endpoint' | 'roleArn' | 'profile' | 'tenantConfigurationSet'
> {
  /** The shard's name; that of the default shard when absent. */
  readonly name?: string;
  /** Milliseconds after which a single call counts as unanswered. */
  readonly timeoutMs: number;
}

/** AWS gives each request an id, and tells it in every answer, an error too. */
interface Answered {
  readonly $metadata: { readonly httpStatusCode?: number; readonly requestId?: string };
}

export interface Call {
  /** Ends the wait for a turn, for a throttled SES, and for an answer. */
  readonly signal?: AbortSignal | undefined;
  /** Who waits for the answer, and so which calls go first; `background` when absent. */
  readonly priority?: Priority | undefined;
}

interface Expecting extends Call {
  /** The error that is an answer too. */
  readonly expected?: new (...args: never[]) => SESv2ServiceException;
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
/**
 * The DKIM of an identity that others have changed: its own keys (BYODKIM), whose only token is a selector, or none.
 */
const otherDkim = z
  .union([
    z.object({ Status: status, SigningAttributesOrigin: z.literal('EXTERNAL') }),
    z.object({ Status: status.extract(['NOT_STARTED']) }),
  ])
  .transform(({ Status }) => ({ Status, Tokens: [], SigningHostedZone: 'dkim.amazonses.com' }));
const mailFrom = z.object({ MailFromDomain: z.string().min(1), MailFromDomainStatus: status.exclude(['NOT_STARTED']) });
const standing = z
  .object({
    VerificationStatus: status,
    VerifiedForSendingStatus: z.boolean(),
    DkimAttributes: z.object({ SigningEnabled: z.boolean() }),
  })
  .transform(({ VerificationStatus, VerifiedForSendingStatus, DkimAttributes }): SesStanding => ({
    verificationStatus: statuses[VerificationStatus],
    verifiedForSending: VerifiedForSendingStatus,
    dkimSigningEnabled: DkimAttributes.SigningEnabled,
  }));
const page = z.object({
  EmailIdentities: z.array(z.object({ IdentityName: z.string(), VerificationStatus: status })),
  NextToken: z.string().optional(),
});

const errors = new Counter({
  name: 'sendmux_ses_errors_total',
  help: 'Calls that a shard of SES has refused this installation, or not answered, by reason',
  labelNames: ['shard', 'reason'],
});

/** Back-off of a listing, before it asks for a page once more. */
const pageBackOff = { baseMs: 500, capMs: 8_000 };

/**
 * Reads the domain identities of Amazon SES v2, each tagged with the id of the domain that asked for it. Calls wait for
 * their turn and for a throttled SES as long as the caller does. `SesWriter` in libs/ses-writer changes identities.
 *
 * Every method throws `SesUnavailable` when SES gave no answer that can be trusted, `SesRefused` when it does not
 * accept the name, and `SesDenied` when it refuses this installation. None of their messages has a word of SES; their
 * causes do, for the log.
 */
export class SesIdentities {
  /** Is told how each call ends; nobody when absent. */
  outcomes: CallOutcomes | undefined;
  protected readonly client: SESv2Client;
  private readonly logger = new Logger(SesIdentities.name);
  private readonly alarm = new CounterpartAlarm('ses');
  private readonly connections = new ConnectionAhead();
  private readonly connectMs: number;

  constructor(
    protected readonly options: SesOptions,
    private readonly turns: Turns,
  ) {
    const timeout = options.timeoutMs;
    // The counter starts at zero, since an alarm on a rate needs a first value.
    errors.inc({ shard: options.name ?? defaultShard, reason: 'no_answer' }, 0);
    this.connectMs = Math.min(timeout, 3_000);
    this.client = new SESv2Client({
      region: options.region,
      ...(options.endpoint && { endpoint: options.endpoint }),
      ...(options.profile && { profile: options.profile }),
      ...(options.roleArn && { credentials: roleCredentials(options.roleArn, options.region) }),
      // Retries are made in `call` only, since the SDK gives up on a throttle.
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: this.connectMs,
        requestTimeout: timeout,
        throwOnRequestTimeout: true,
        httpAgent: this.connections.http,
        httpsAgent: this.connections.https,
      },
    });
  }

  /** Reads an identity (`GetEmailIdentity`); null when there is none. */
  async get(name: string, call: Call = {}): Promise<SesIdentity | null> {
    const found = await this.call(
      'GetEmailIdentity',
      (options) => this.client.send(new GetEmailIdentityCommand({ EmailIdentity: name }), options),
      { ...call, expected: NotFoundException },
    );
    if (!found) return null;
    const tag = found.Tags?.find(({ Key }) => Key === domainIdTag);
    const dkim = easyDkim.or(otherDkim).safeParse(found.DkimAttributes);
    return this.identity(name, tag?.Value ?? null, dkim, found);
  }

  /**
   * Lists the identities of the account with their statuses, in pages of a thousand (`ListEmailIdentities`). A page
   * after the first is retried twice when SES gives no answer, so that a long list does not start again because of one
   * fault.
   */
  async *list(call: Call = {}): AsyncGenerator<{ name: string; status: SesDkimStatus }[], void> {
    const { signal } = call;
    let next: string | undefined;
    let faults = 0;
    do {
      try {
        const { EmailIdentities, NextToken } = await this.page(next, call);
        yield EmailIdentities.map(({ IdentityName, VerificationStatus }) => ({
          name: IdentityName.toLowerCase(),
          status: statuses[VerificationStatus],
        }));
        next = NextToken;
        faults = 0;
      } catch (error) {
        const isLast = next === undefined || ++faults > 2 || signal?.aborted;
        if (isLast || !(error instanceof SesUnavailable)) throw error;
        await delay(backOffMs(pageBackOff, faults), undefined, { signal }).catch(() => undefined);
      }
    } while (next);
  }

  private async page(NextToken: string | undefined, call: Call): Promise<z.output<typeof page>> {
    const answer = await this.call(
      'ListEmailIdentities',
      (options) => this.client.send(new ListEmailIdentitiesCommand({ PageSize: 1_000, NextToken }), options),
      call,
    );
    const parsed = page.safeParse(answer);
    if (!parsed.success) throw new SesUnavailable('SES answered with a page that cannot be read');
    return parsed.data;
  }

  /** Reads what the account may send (`GetAccount`). */
  async sending(call: Call = {}): Promise<SesAccount> {
    const account = await this.call(
      'GetAccount',
      (options) => this.client.send(new GetAccountCommand({}), options),
      call,
    );
    return {
      isEnabled: account?.SendingEnabled ?? false,
      isInProduction: account?.ProductionAccessEnabled ?? false,
      enforcement: account?.EnforcementStatus,
      daily: account?.SendQuota?.Max24HourSend,
      aSecond: account?.SendQuota?.MaxSendRate,
    };
  }

  close(): void {
    this.client.destroy();
    this.connections.close();
  }

  /**
   * Gets credentials and a connection. A call whose turn has come begins at once then, and not after a role is assumed
   * or TLS is agreed on.
   */
  protected async ready(signal: AbortSignal | undefined): Promise<void> {
    const late = AbortSignal.timeout(this.options.timeoutMs);
    const both = Promise.all([this.client.config.credentials(), this.connect()]);
    await unlessAborted(both, signal ? AbortSignal.any([signal, late]) : late);
  }

  private async connect(): Promise<void> {
    const { endpointProvider, useFipsEndpoint, useDualstackEndpoint } = this.client.config;
    const server = this.options.endpoint
      ? new URL(this.options.endpoint)
      : endpointProvider({
          Region: this.options.region,
          UseFIPS: await useFipsEndpoint(),
          UseDualStack: await useDualstackEndpoint(),
        }).url;
    await this.connections.open(server, this.connectMs);
  }

  /** Makes an identity from an answer of SES which says that it has Easy DKIM. */
  protected withEasyDkim(
    name: string,
    domainId: string,
    DkimAttributes: DkimAttributes | undefined,
    ConfigurationSetName?: string,
  ): SesIdentity {
    const answer = ConfigurationSetName === undefined ? {} : { ConfigurationSetName };
    return this.identity(name, domainId, easyDkim.safeParse(DkimAttributes), answer);
  }

  private identity(
    name: string,
    domainId: string | null,
    dkim: z.ZodSafeParseResult<z.output<typeof easyDkim>>,
    answer: Partial<GetEmailIdentityCommandOutput> = {},
  ): SesIdentity {
    if (!dkim.success) throw new SesUnavailable(`SES answered for ${name} without three DKIM tokens and a status`);
    const { Status, Tokens, SigningHostedZone } = dkim.data;
    const { VerificationInfo: verification, MailFromAttributes, ConfigurationSetName } = answer;
    const { data: from } = mailFrom.safeParse(MailFromAttributes);
    return {
      name,
      domainId,
      status: statuses[Status],
      tokens: Tokens,
      hostedZone: SigningHostedZone,
      region: this.options.region,
      mailFrom: from ? { domain: from.MailFromDomain, status: statuses[from.MailFromDomainStatus] } : null,
      configurationSet: ConfigurationSetName || null,
      standing: standing.safeParse(answer).data ?? null,
      verification: {
        errorType: verification?.ErrorType?.toLowerCase() ?? null,
        lastCheckedAt: verification?.LastCheckedTimestamp ?? null,
        lastSuccessAt: verification?.LastSuccessTimestamp ?? null,
      },
    };
  }

  /**
   * Makes a call. Gives the answer of SES, or undefined for an expected error. A throttled call is repeated for as
   * long as the caller waits; other failures are left to the caller.
   */
  protected call<Answer extends Answered>(
    operation: SesOperation,
    send: (options: { abortSignal: AbortSignal }) => Promise<Answer>,
    how: Expecting,
  ): Promise<Answer | undefined> {
    const attributes = {
      'rpc.system': 'aws-api',
      'rpc.service': 'SESv2',
      'rpc.method': operation,
      'cloud.region': this.options.region,
      'sendmux.ses.shard': this.options.name ?? defaultShard,
    };
    return span(`SES ${operation}`, { kind: 'client', attributes }, async (called) => {
      const answer = await this.callInTurn(operation, send, how);
      called.set({ 'aws.request_id': answer?.$metadata.requestId });
      return answer;
    });
  }

  private async callInTurn<Answer extends Answered>(
    operation: SesOperation,
    send: (options: { abortSignal: AbortSignal }) => Promise<Answer>,
    { signal, priority = 'background', expected }: Expecting,
  ): Promise<Answer | undefined> {
    const since = performance.now();
    try {
      for (;;) {
        await this.ready(signal);
        await span('wait for a turn at SES', {}, () => this.turns.take({ priority, signal, since }));
        const beganAt = performance.now();
        // The request handler's time-out ends with the headers of the answer, but the body can hang too.
        const late = AbortSignal.timeout(this.options.timeoutMs);
        try {
          const abortSignal = signal ? AbortSignal.any([signal, late]) : late;
          const answer = await unlessAborted(send({ abortSignal }), abortSignal);
          // A proxy may answer with a page and status 200, and the SDK does not check an answer without required
          // fields.
          if (!answer.$metadata.requestId) throw new Error('what answered is not SES: there is no request id');
          this.outcomes?.answered();
          return answer;
        } catch (error) {
          if (expected && error instanceof expected && error.$metadata.requestId) {
            this.outcomes?.answered();
            return undefined;
          }
          if (faultOf(error as Error, operation) !== 'throttled') throw error;
          await this.turns.slowDown(beganAt);
        }
      }
    } catch (error) {
      throw this.translate(error as Error, operation, signal);
    }
  }

  /** Gives an error without the text of SES, which goes to the log. */
  private translate(error: Error & Partial<Answered>, operation: SesOperation, signal?: AbortSignal): Error {
    const fault = faultOf(error, operation);
    const { name: shard = defaultShard } = this.options;
    const said = { shard, operation, error: error.name, said: error.message, request: error.$metadata?.requestId };
    if (fault === 'ours') {
      const reason = isKnownSesError(error.name) ? error.name : 'unknown';
      this.fails(reason, true);
      this.alarm.raise(reason, `SES refuses ${operation} to this installation`, said);
      return new SesDenied(`SES refuses ${operation} to this installation (${reason})`, { cause: error }, operation);
    }
    if (!signal?.aborted)
      this.logger.warn(said, fault === 'name' ? 'SES does not accept a name' : 'SES gave no answer');
    if (fault === 'name') {
      this.outcomes?.answered();
      return new SesRefused('SES does not accept the name', { cause: error });
    }
    if (!signal?.aborted) this.fails('no_answer', false);
    return new SesUnavailable(`SES gave no answer to ${operation}`, { cause: error });
  }

  private fails(reason: string, isDenied: boolean): void {
    errors.inc({ shard: this.options.name ?? defaultShard, reason });
    this.outcomes?.failed(reason, isDenied);
  }
}

/** Waits for an answer until a signal aborts. The SDK heeds the signal once it has credentials, and not before. */
async function unlessAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  let give: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    give = () => reject(signal.reason as Error);
    signal.addEventListener('abort', give);
    if (signal.aborted) give();
  });
  try {
    return await Promise.race([answer, aborted]);
  } finally {
    signal.removeEventListener('abort', give!);
  }
}

/** Gives credentials of a role, which is assumed anew before they expire. */
const roleCredentials = (RoleArn: string, region: string) =>
  fromTemporaryCredentials({ params: { RoleArn, RoleSessionName: 'sendmux-domains' }, clientConfig: { region } });

/**
 * Sorts whatever the SDK has thrown. An answer is believed only if it is one of AWS: with a name and a request id. A
 * throttle is waited out whoever it comes from.
 */
function faultOf(error: Error & Partial<Answered>, operation: SesOperation): SesFault {
  const { httpStatusCode = 0, requestId } = error.$metadata ?? {};
  const fault = sesFault(error.name, httpStatusCode, operation);
  const hasName = isKnownSesError(error.name) || !/^(|Error|Unknown.*|SyntaxError)$/.test(error.name);
  const isBelieved = httpStatusCode === 0 || (requestId !== undefined && hasName);
  return isBelieved || fault === 'throttled' ? fault : 'passing';
}
