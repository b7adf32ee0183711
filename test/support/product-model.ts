/**
 * A model of the whole product, written from the guide (`test/guide/custom-domains.txt`) and `docs`, in ordinary
 * TypeScript: what each request answers, and what then is in the log, in the tables, at Amazon SES, in the mails to the
 * owners and in the messages to webhooks. Pure; it knows nothing of how the product does it. Teams, names, domains,
 * mailboxes and claims are numbers; times are milliseconds.
 */

export const day = 86_400_000;
export const cycle = day / 4;
/** The limits and times that the product is run with. */
export const domainsPerTeam = 3;
const grace = 7 * day;
const expiryAge = 30 * day;
const expiryNotice = 7 * day;
const claimOpenFor = 14 * day;
/** A domain that was never verified gets further looks at these ages. */
const youngAges = [1, 2, 5, 10, 30].map((minutes) => minutes * 60_000);
/**
 * The latest time after the loss of an ownership record at which owners are told of it by a mail of its own, where the
 * domain is still pending.
 */
const ownershipMailLatest = 3 * cycle;

/** The records of a domain that a step can break, each by itself. */
export const breakable = ['mx', 'spf', 'dmarc'] as const;
export type Breakable = (typeof breakable)[number];

interface Zone {
  readonly records: Set<Breakable>;
  /** The teams whose ownership records stand there. */
  readonly owners: Set<number>;
  /** The identities whose DKIM records stand there. */
  readonly dkim: Set<number>;
}

export interface Domain {
  readonly key: number;
  readonly name: number;
  readonly team: number;
  readonly createdAt: number;
  status: 'pending' | 'verified' | 'failed' | 'rolled_back' | 'deleted';
  /** Scheduled looks in a row that found it failing, after it was verified. */
  strikes: number;
  verifiedAt: number | null;
  episodes: number;
  /** The identity at SES; null while SES has lost it. */
  identity: number | null;
  goneSince?: number | undefined;
  expiresAt?: number | undefined;
  /** The time of the last look that found something else than the one before. */
  checkedAt?: number | undefined;
  lastSeen?: string | undefined;
  /** The types of its events, but for the looks and what owners were told. */
  readonly events: string[];
}

export interface Mailbox {
  readonly key: number;
  readonly local: string;
  readonly domain: number;
  readonly team: number;
  status: 'active' | 'suspended' | 'deleted';
  isReleased: boolean;
  readonly events: string[];
}

export interface Claim {
  readonly key: number;
  readonly team: number;
  readonly name: number;
  readonly openedAt: number;
  status: 'pending' | 'refused' | 'succeeded' | 'withdrawn';
  /** The domain that it has won. */
  domain?: number;
}

/** A mail that every owner of a team gets, about names. */
export interface Mail {
  readonly team: number;
  readonly about: 'failed' | 'recovered' | 'new_records' | 'ownership_gone' | 'released' | 'expires';
  readonly names: readonly number[];
}

/** A message to webhooks. */
export interface Message {
  readonly team: number;
  readonly subject: { readonly domain: number } | { readonly mailbox: number };
  readonly type: string;
  /** The status that the body shows. */
  readonly status: string;
}

export interface Webhook {
  readonly key: number;
  readonly team: number;
  readonly got: Message[];
  isThere: boolean;
}

/** What a request answers: its status, the code of an error, and fields of the answer. */
export interface Expected {
  readonly status: number;
  readonly code?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  /** Fields of the error. */
  readonly error?: Readonly<Record<string, unknown>>;
  /** The domain, mailbox or claim that the answer is about. */
  readonly domain?: Domain;
  readonly mailbox?: Mailbox;
  readonly claim?: Claim;
}

interface Notice {
  readonly about: 'failed' | 'recovered' | 'ownership_gone';
  readonly domain: Domain;
  readonly at: number;
  readonly episode: number;
  readonly hadFailed?: boolean;
}

const refused = (status: number, code: string, error?: Expected['error']): Expected => ({
  status,
  code,
  ...(error && { error }),
});
const notFound = refused(404, 'not_found');
const conflict = refused(409, 'conflict');

export class ProductModel {
  readonly domains: Domain[] = [];
  readonly mailboxes: Mailbox[] = [];
  readonly claims: Claim[] = [];
  readonly webhooks: Webhook[] = [];
  readonly mails: Mail[] = [];
  private readonly zones = new Map<number, Zone>();
  private notices: Notice[] = [];
  /** The failures that owners were told of, by domain and episode. */
  private readonly told = new Set<string>();
  private identities = 0;

  /** @param now the time of the product, which every step says. */
  constructor(public now: number) {}

  isLive(domain: Domain): boolean {
    return domain.status === 'pending' || domain.status === 'verified' || domain.status === 'failed';
  }

  holderOf(name: number): Domain | undefined {
    return this.domains.find((domain) => domain.name === name && this.isLive(domain));
  }

  domainsOf(team: number): Domain[] {
    return this.domains.filter((domain) => domain.team === team && this.isLive(domain));
  }

  /** The mailboxes that stand on a domain. */
  mailboxesOn(domain: Domain): Mailbox[] {
    return this.mailboxes.filter((mailbox) => mailbox.domain === domain.key && mailbox.status !== 'deleted');
  }

  // Domains

  add(team: number, name: number): Expected {
    const refusal = this.refusalOfAdd(team, name);
    if (refusal) return refusal;
    return { status: 201, domain: this.provisioned(team, name) };
  }

  /** An add that Amazon SES refuses: everything is rolled back. */
  addRefusedBySes(team: number, name: number): Expected {
    const refusal = this.refusalOfAdd(team, name);
    if (refusal) return refusal;
    const domain = this.newDomain(team, name);
    domain.status = 'rolled_back';
    domain.events.push('DomainAdded', 'ProvisioningFailed', 'ProvisioningRolledBack');
    return refused(502, 'provisioning_failed');
  }

  get(team: number, domain: Domain): Expected {
    return this.mine(team, domain) ? { status: 200, domain } : notFound;
  }

  verify(team: number, domain: Domain): Expected {
    if (!this.mine(team, domain)) return notFound;
    const found = this.look(domain, 'requested');
    if (found.isUndecided) return refused(503, 'service_unavailable');
    const { mx, spf, dmarc, ownership } = found;
    const checks = { mx, spf, dmarc, verification_txt: ownership };
    return { status: 200, data: { status: domain.status, checks } };
  }

  delete(team: number, domain: Domain): Expected {
    if (!this.mine(team, domain)) return notFound;
    if (this.mailboxesOn(domain).length > 0) return conflict;
    this.end(domain, 'DomainDeletionRequested');
    return { status: 200, data: { deleted: true } };
  }

  // Mailboxes

  createMailbox(team: number, local: string, name: number): Expected {
    const home = this.domainsOf(team).find((domain) => domain.name === name);
    if (home?.status !== 'verified') return conflict;
    const isTaken = this.mailboxes.some(
      (other) => other.status !== 'deleted' && other.local === local && this.domains[other.domain]!.name === name,
    );
    if (isTaken) return conflict;
    const mailbox: Mailbox = {
      key: this.mailboxes.length,
      local,
      domain: home.key,
      team,
      status: 'active',
      isReleased: false,
      events: ['MailboxCreated'],
    };
    this.mailboxes.push(mailbox);
    this.tellOfMailbox(mailbox, 'mailbox.created');
    return { status: 201, mailbox };
  }

  suspend(team: number, mailbox: Mailbox): Expected {
    if (!this.has(team, mailbox)) return notFound;
    if (mailbox.status === 'active') this.setMailbox(mailbox, 'suspended', 'MailboxSuspended', 'mailbox.suspended');
    return { status: 200, mailbox };
  }

  resume(team: number, mailbox: Mailbox): Expected {
    if (!this.has(team, mailbox)) return notFound;
    if (mailbox.isReleased) return conflict;
    if (mailbox.status === 'suspended') this.setMailbox(mailbox, 'active', 'MailboxResumed', 'mailbox.resumed');
    return { status: 200, mailbox };
  }

  deleteMailbox(team: number, mailbox: Mailbox): Expected {
    if (!this.has(team, mailbox)) return notFound;
    this.setMailbox(mailbox, 'deleted', 'MailboxDeleted', 'mailbox.deleted');
    return { status: 200 };
  }

  // Claims

  statusOf(claim: Claim): Claim['status'] | 'expired' {
    const isOpen = claim.status === 'pending' || claim.status === 'refused';
    return isOpen && claim.openedAt + claimOpenFor <= this.now ? 'expired' : claim.status;
  }

  openClaim(team: number, name: number): Expected {
    const holder = this.holderOf(name);
    if (!holder || holder.team === team) return conflict;
    const isOpen = (claim: Claim) => ['pending', 'refused'].includes(this.statusOf(claim));
    if (this.claims.some((claim) => claim.team === team && claim.name === name && isOpen(claim))) return conflict;
    const claim: Claim = { key: this.claims.length, team, name, openedAt: this.now, status: 'pending' };
    this.claims.push(claim);
    return { status: 201, claim };
  }

  verifyClaim(team: number, claim: Claim): Expected {
    const status = this.statusOf(claim);
    if (claim.team !== team || status === 'withdrawn') return notFound;
    if (status === 'succeeded' || status === 'expired') return { status: 200, claim };
    const holder = this.holderOf(claim.name);
    if (holder?.team === team) return conflict;
    if (!this.zone(claim.name).owners.has(team)) {
      claim.status = 'pending';
      return { status: 200, claim };
    }
    if (holder && this.isKept(holder)) {
      claim.status = 'refused';
      return { status: 200, claim };
    }
    if (this.domainsOf(team).length >= domainsPerTeam) return this.full(team);
    if (holder) this.release(holder);
    claim.domain = this.provisioned(team, claim.name).key;
    claim.status = 'succeeded';
    return { status: 200, claim };
  }

  withdraw(team: number, claim: Claim): Expected {
    if (claim.team !== team || claim.status === 'withdrawn') return notFound;
    claim.status = 'withdrawn';
    return { status: 200, data: { deleted: true } };
  }

  // Webhooks

  createWebhook(team: number): Webhook {
    const webhook = { key: this.webhooks.length, team, got: [], isThere: true };
    this.webhooks.push(webhook);
    return webhook;
  }

  deleteWebhook(webhook: Webhook): void {
    webhook.isThere = false;
  }

  // The DNS and Amazon SES

  /** All records of a domain are placed. */
  place(domain: Domain): void {
    const { records, owners, dkim } = this.zone(domain.name);
    for (const record of breakable) records.add(record);
    owners.add(domain.team);
    if (domain.identity !== null) dkim.add(domain.identity);
  }

  break(name: number, record: Breakable): void {
    this.zone(name).records.delete(record);
  }

  mend(name: number, record: Breakable): void {
    this.zone(name).records.add(record);
  }

  placeOwnership(name: number, team: number): void {
    this.zone(name).owners.add(team);
  }

  removeOwnership(name: number, team: number): void {
    this.zone(name).owners.delete(team);
  }

  ownersAt(name: number): ReadonlySet<number> {
    return this.zone(name).owners;
  }

  /** Whether all is in place that the domain wants. */
  isRight(domain: Domain): boolean {
    return this.seen(domain).isAllRight;
  }

  loseIdentity(domain: Domain): void {
    domain.identity = null;
  }

  // The time

  /** The product has done what it can do now. */
  settle(): void {
    this.tell();
  }

  /**
   * Lets time pass. Then the cycle looks at all domains, once, where that is long enough; else at young domains alone.
   */
  pass(ms: number): void {
    const before = this.now;
    this.now += ms;
    this.tell();
    for (const domain of this.domains) {
      if (domain.status !== 'pending' && domain.status !== 'verified') continue;
      const isYoung =
        domain.status === 'pending' &&
        domain.verifiedAt === null &&
        youngAges.some((age) => before < domain.createdAt + age && domain.createdAt + age <= this.now);
      if (ms >= cycle || isYoung) this.look(domain, 'scheduled');
    }
    this.tell();
    for (const domain of this.domains) this.expire(domain);
    this.tell();
  }

  private expire(domain: Domain): void {
    if (!this.isLive(domain) || domain.verifiedAt !== null) return;
    if (domain.expiresAt !== undefined) {
      if (domain.expiresAt <= this.now) this.end(domain, 'DomainExpired');
      return;
    }
    if (this.now - domain.createdAt < expiryAge - expiryNotice) return;
    domain.expiresAt = Math.max(domain.createdAt + expiryAge, this.now + expiryNotice);
    domain.events.push('ExpiryAnnounced');
    this.mails.push({ team: domain.team, about: 'expires', names: [domain.name] });
  }

  // Looks

  private seen(domain: Domain) {
    const { records, owners, dkim } = this.zone(domain.name);
    const ownership = owners.has(domain.team);
    const [mx, spf, dmarc] = breakable.map((record) => records.has(record)) as [boolean, boolean, boolean];
    const isLost = domain.identity === null;
    const isSigned = domain.identity !== null && dkim.has(domain.identity);
    const isInPlace = mx && spf && dmarc && ownership;
    return {
      mx,
      spf,
      dmarc,
      ownership,
      isLost,
      isAllRight: isInPlace && isSigned,
      isBroken: !isInPlace || (!isLost && !isSigned),
      isUndecided: isInPlace && isLost,
      all: JSON.stringify([mx, spf, dmarc, [...owners].sort(), isLost, isSigned, domain.identity]),
    };
  }

  private look(domain: Domain, trigger: 'requested' | 'scheduled') {
    const seen = this.seen(domain);
    if (!seen.isUndecided) this.record(domain, trigger, seen);
    if (seen.isLost) this.repair(domain);
    return seen;
  }

  private record(domain: Domain, trigger: 'requested' | 'scheduled', seen: ReturnType<ProductModel['seen']>): void {
    if (domain.lastSeen !== seen.all) domain.checkedAt = this.now;
    domain.lastSeen = seen.all;
    const wasVerified = domain.verifiedAt !== null;
    const begins = !seen.ownership && wasVerified && domain.goneSince === undefined;
    if (seen.ownership) domain.goneSince = undefined;
    if (begins) domain.goneSince = this.now;
    const hadFailed = domain.status === 'failed';
    this.judge(domain, trigger, seen);
    if (begins) this.notices.push({ about: 'ownership_gone', domain, at: this.now, episode: 0, hadFailed });
  }

  private judge(domain: Domain, trigger: 'requested' | 'scheduled', seen: ReturnType<ProductModel['seen']>): void {
    if (seen.isAllRight) {
      if (domain.status === 'verified') return;
      this.setDomain(
        domain,
        'verified',
        'DomainVerified',
        domain.status === 'failed' ? 'domain.recovered' : 'domain.verified',
      );
      Object.assign(domain, { strikes: 0, verifiedAt: this.now, expiresAt: undefined });
      if (domain.episodes > 0) this.note('recovered', domain);
      return;
    }
    if (!seen.isBroken) return;
    if (domain.status === 'verified') {
      domain.strikes = trigger === 'scheduled' ? 1 : 0;
      domain.checkedAt = this.now;
      this.setDomain(domain, 'pending', 'VerificationLapsed', 'domain.lapsed');
      return;
    }
    if (domain.status === 'failed' || trigger === 'requested' || domain.verifiedAt === null) return;
    domain.strikes += 1;
    domain.checkedAt = this.now;
    if (domain.strikes < 2) return;
    domain.episodes += 1;
    this.setDomain(domain, 'failed', 'VerificationFailed', 'domain.failed');
    this.note('failed', domain);
  }

  /** SES gets the identity anew, with other DKIM records. */
  private repair(domain: Domain): void {
    domain.identity = ++this.identities;
    domain.events.push('IdentityRepairRequested', 'IdentityRepaired');
    this.tellOfDomain(domain, 'domain.records_changed');
    this.mails.push({ team: domain.team, about: 'new_records', names: [domain.name] });
  }

  // Claims of others

  /** Whether a domain is safe from claims now. A look is made where its own looks would not notice. */
  private isKept(holder: Domain): boolean {
    if (holder.verifiedAt === null) return false;
    const { ownership } = this.seen(holder);
    const isOver = holder.goneSince !== undefined && holder.goneSince + grace <= this.now;
    if (!ownership && isOver) return false;
    const isNoticed = ownership ? holder.goneSince === undefined : holder.goneSince !== undefined;
    // A domain that is verified is left to the cycle.
    if (!isNoticed && holder.status !== 'verified') {
      const seen = this.seen(holder);
      if (!seen.isUndecided) this.record(holder, 'requested', seen);
    }
    return true;
  }

  private release(domain: Domain): void {
    for (const mailbox of this.mailboxesOn(domain)) {
      mailbox.isReleased = true;
      mailbox.events.push('MailboxSuspended');
      if (mailbox.status === 'active') {
        mailbox.status = 'suspended';
        this.tellOfMailbox(mailbox, 'mailbox.suspended');
      }
    }
    this.end(domain, 'DomainReleased');
    this.mails.push({ team: domain.team, about: 'released', names: [domain.name] });
  }

  // Mails

  private note(about: Notice['about'], domain: Domain): void {
    this.notices.push({ about, domain, at: this.now, episode: domain.episodes });
  }

  /** Sends the mails that wait for nothing any more. */
  private tell(): void {
    const waiting = new Set(this.notices);
    for (const notice of this.notices) {
      if (!waiting.has(notice) || notice.about !== 'failed') continue;
      const { team } = notice.domain;
      // Others of the team may be about to fail.
      const isComing = this.domainsOf(team).some(
        (other) => other.status === 'pending' && other.verifiedAt !== null && other.checkedAt! <= notice.at,
      );
      if (this.now - notice.at < cycle && isComing) continue;
      const together = [...waiting].filter(({ about, domain }) => about === 'failed' && domain.team === team);
      const still = together.filter(({ domain, episode }) => domain.status === 'failed' && domain.episodes === episode);
      for (const each of together) waiting.delete(each);
      for (const { domain, episode } of still) this.told.add(`${domain.key}/${episode}`);
      if (still.length > 0)
        this.mails.push({ team, about: 'failed', names: still.map(({ domain }) => domain.name).sort() });
    }
    for (const notice of [...waiting]) {
      const { about, domain, episode, at } = notice;
      if (about === 'recovered') {
        const isOpen = [...waiting].some(
          (each) => each.about === 'failed' && each.domain === domain && each.episode === episode,
        );
        if (isOpen) continue;
        waiting.delete(notice);
        if (domain.status === 'verified' && domain.episodes === episode && this.told.has(`${domain.key}/${episode}`))
          this.mails.push({ team: domain.team, about, names: [domain.name] });
      }
      if (about === 'ownership_gone' && this.now >= at + cycle) {
        // The mail about a failure says it too.
        const isFailing = !notice.hadFailed && domain.status === 'failed';
        if (!isFailing && !notice.hadFailed && domain.status === 'pending' && this.now < at + ownershipMailLatest)
          continue;
        waiting.delete(notice);
        if (!isFailing && this.isLive(domain) && domain.goneSince === at)
          this.mails.push({ team: domain.team, about, names: [domain.name] });
      }
    }
    this.notices = this.notices.filter((notice) => waiting.has(notice));
  }

  // Messages

  private tellOfDomain({ key, team, status }: Domain, type: string): void {
    this.tellWebhooks({ team, subject: { domain: key }, type, status });
  }

  private tellOfMailbox({ key, team, status }: Mailbox, type: string): void {
    this.tellWebhooks({ team, subject: { mailbox: key }, type, status });
  }

  private tellWebhooks(message: Message): void {
    for (const { team, isThere, got } of this.webhooks) if (isThere && team === message.team) got.push(message);
  }

  // What changes

  private zone(name: number): Zone {
    const known = this.zones.get(name);
    if (known) return known;
    const zone = { records: new Set<Breakable>(), owners: new Set<number>(), dkim: new Set<number>() };
    this.zones.set(name, zone);
    return zone;
  }

  private mine(team: number, domain: Domain): boolean {
    return domain.team === team && this.isLive(domain);
  }

  private has(team: number, mailbox: Mailbox): boolean {
    return mailbox.team === team && mailbox.status !== 'deleted';
  }

  private refusalOfAdd(team: number, name: number): Expected | undefined {
    if (this.holderOf(name)) return conflict;
    return this.domainsOf(team).length >= domainsPerTeam ? this.full(team) : undefined;
  }

  private full(team: number): Expected {
    return refused(409, 'limit_exceeded', { current: this.domainsOf(team).length, limit: domainsPerTeam });
  }

  private newDomain(team: number, name: number): Domain {
    const domain: Domain = {
      key: this.domains.length,
      name,
      team,
      createdAt: this.now,
      status: 'pending',
      strikes: 0,
      verifiedAt: null,
      episodes: 0,
      identity: ++this.identities,
      events: [],
    };
    this.domains.push(domain);
    return domain;
  }

  private provisioned(team: number, name: number): Domain {
    const domain = this.newDomain(team, name);
    domain.events.push('DomainAdded', 'DomainProvisioned');
    this.tellOfDomain(domain, 'domain.created');
    return domain;
  }

  private end(domain: Domain, by: string): void {
    domain.events.push(by, 'DomainDeleted');
    // It is shown as pending while it is being deleted.
    this.tellWebhooks({
      team: domain.team,
      subject: { domain: domain.key },
      type: 'domain.deleted',
      status: 'pending',
    });
    domain.status = 'deleted';
  }

  private setDomain(domain: Domain, status: Domain['status'], event: string, message: string): void {
    domain.status = status;
    domain.events.push(event);
    this.tellOfDomain(domain, message);
  }

  private setMailbox(mailbox: Mailbox, status: Mailbox['status'], event: string, message: string): void {
    mailbox.status = status;
    mailbox.events.push(event);
    this.tellOfMailbox(mailbox, message);
  }
}
