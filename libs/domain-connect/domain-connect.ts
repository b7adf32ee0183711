import { z } from 'zod';
import type { Expected } from '@app/mail-records';
import { applyUrl } from './apply-url';
import { NotFetched, pinnedGet, type Resolver } from './pinned-get';
import { isLoopback } from '@app/ip-addresses';
import type { SigningKey } from './signing-key';
import { groupsOf, providerId, serviceId, variablesOf } from './template';

/** How an installation uses Domain Connect. */
export interface DomainConnectOptions {
  /** The hosts that may be asked and linked to, each with its port where that is another than that of HTTPS. */
  readonly providers: readonly string[];
  readonly key: SigningKey;
  /** The name of the key's TXT records below `sendmux.ai`. */
  readonly keyName: string;
  /** Whether a provider may be this machine, also over plain HTTP: for development only. */
  readonly loopback: boolean;
  /** Where the provider sends the browser afterwards. */
  readonly returnTo: string;
  /** Milliseconds for one request; 3,000 when absent. */
  readonly timeoutMs?: number;
}

/** A link with which the records of a domain are placed by one click. */
export interface OneClick {
  /** Who hosts the zone, for people. */
  readonly provider: string;
  readonly url: string;
}

interface Provider {
  readonly name: string;
  /** `urlSyncUX`. */
  readonly prefix: string;
}

/** The most octets of an answer. */
const answerLimit = 65_536;
/** Milliseconds for which what was found out of a zone is used again. */
const freshMs = 60_000;
/** Zones that are remembered. */
const rememberedZones = 1_000;

const url = z.string().max(500);
/** What we read of `GET /v2/{domain}/settings` ("DNS Provider Discovery"). */
const settings = z.object({
  providerName: z.string().max(200),
  providerDisplayName: z.string().max(200).optional(),
  urlSyncUX: url.optional(),
  urlAPI: url,
});

/**
 * Finds out whether the provider of a zone takes our template, and makes the link that has it applied
 * (draft-ietf-dconn-domainconnect). Asks no host but those of the settings.
 */
export class DomainConnect {
  private readonly known = new Map<string, { readonly at: number; readonly provider: Promise<Provider | undefined> }>();

  constructor(
    private readonly resolvers: readonly Resolver[],
    private readonly options: DomainConnectOptions,
  ) {}

  /**
   * @param zone as the DNS has it.
   * @param dmarc the DMARC record that the domain is to have.
   * @returns undefined where the zone has no provider of the settings, or that one does not take our template.
   */
  async linkFor(domain: Expected, zone: string, dmarc: string): Promise<OneClick | undefined> {
    const variables = variablesOf(domain, dmarc);
    const provider = variables && (await this.providerOf(zone));
    if (!provider) return undefined;
    const { key, keyName, returnTo } = this.options;
    const application = { zone, domain: domain.name, variables, groups: groupsOf(domain), returnTo };
    return { provider: provider.name, url: applyUrl(provider.prefix, application, key, keyName) };
  }

  private providerOf(zone: string): Promise<Provider | undefined> {
    const now = performance.now();
    const before = this.known.get(zone);
    if (before && now - before.at < freshMs) return before.provider;
    // The oldest is the first: what is asked for anew goes to the end.
    this.known.delete(zone);
    if (this.known.size >= rememberedZones) this.known.delete(this.known.keys().next().value!);
    const provider = this.discover(zone).catch((error: unknown) => {
      if (error instanceof NotFetched) return undefined;
      throw error;
    });
    this.known.set(zone, { at: now, provider });
    return provider;
  }

  /** @throws {NotFetched} */
  private async discover(zone: string): Promise<Provider | undefined> {
    const answers = await Promise.all(this.resolvers.map((resolver) => resolver.txt(`_domainconnect.${zone}`)));
    const texts = answers.find(({ kind }) => kind === 'records');
    const prefix = texts?.kind === 'records' ? this.firstOf(texts.records) : undefined;
    if (!prefix) return undefined;
    const parsed = settings.safeParse(parsedJson(await this.get(`${prefix}/v2/${zone}/settings`)));
    if (!parsed.success) return undefined;
    const { providerName, providerDisplayName, urlSyncUX, urlAPI } = parsed.data;
    const [pages, api] = [urlSyncUX === undefined ? undefined : this.prefixOf(urlSyncUX), this.prefixOf(urlAPI)];
    if (pages === undefined || api === undefined) return undefined;
    await this.get(`${api}/v2/domainTemplates/providers/${providerId}/services/${serviceId}`);
    return { name: providerDisplayName ?? providerName, prefix: pages };
  }

  /** Gives the URL prefix of the first text that names a host of the settings. */
  private firstOf(texts: readonly string[]): string | undefined {
    for (const text of texts) {
      if (!/^[\w.:[\]-]{1,260}(\/[\w.~/-]{0,200})?$/.test(text)) continue;
      const host = text.split('/', 1)[0]!.replace(/:\d{1,5}$/, '');
      const prefix = this.prefixOf(`${this.options.loopback && isLoopback(host) ? 'http' : 'https'}://${text}`);
      if (prefix !== undefined) return prefix;
    }
    return undefined;
  }

  /**
   * Gives the prefix that a URL is, as browsers read it, without a slash at its end; undefined where it does not lead
   * to a host of the settings, by HTTPS, or where that is allowed to this machine.
   */
  private prefixOf(given: string): string | undefined {
    if (!URL.canParse(given)) return undefined;
    const { protocol, origin, host, hostname, pathname, username, password, search, hash } = new URL(given);
    if (username || password || search || hash || !this.options.providers.includes(host)) return undefined;
    const isTaken = protocol === 'https:' || (protocol === 'http:' && this.options.loopback && isLoopback(hostname));
    return isTaken ? `${origin}${pathname}`.replace(/\/$/, '') : undefined;
  }

  /** @throws {NotFetched} */
  private get(address: string): Promise<string> {
    const { loopback, timeoutMs = 3_000 } = this.options;
    return pinnedGet(new URL(address), { resolvers: this.resolvers, loopback, timeoutMs, limit: answerLimit });
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
