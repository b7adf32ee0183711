import { createPublicKey, verify } from 'node:crypto';
import {
  BadRequestException,
  Body,
  Controller,
  Get,
  Header,
  Inject,
  NotFoundException,
  Param,
  Post,
  Redirect,
  Req,
} from '@nestjs/common';
import { template } from '@app/domain-connect';
import type { FastifyRequest } from 'fastify';
import { SandboxAddress } from './platform-records';
import { canonical, Zone } from './zone';

interface Application {
  readonly zone: string;
  /** The domain that the template is applied to. */
  readonly domain: string;
  readonly changes: readonly Change[];
  readonly returnTo: string;
}

interface Change {
  readonly name: string;
  readonly type: string;
  /** All values of the type at the name, before and after. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

const apply = 'v2/domainTemplates/providers/:provider/services/:service/apply';

/**
 * Stands in for a DNS provider that has accepted our template (draft-ietf-dconn-domainconnect): it says so, checks the
 * signature of a link, shows what it would place, and places that. It asks nobody to log in.
 */
@Controller('domain-connect')
export class DomainConnectController {
  constructor(
    private readonly zone: Zone,
    @Inject(SandboxAddress) private readonly address: SandboxAddress,
  ) {}

  @Get('v2/:zone/settings')
  settings(): object {
    const url = `http://${this.address.host}/domain-connect`;
    return { providerId: 'sandbox', providerName: 'Sandbox DNS', urlSyncUX: url, urlAPI: url };
  }

  @Get('v2/domainTemplates/providers/:provider/services/:service')
  supports(@Param('provider') provider: string, @Param('service') service: string): object {
    assertOurs(provider, service);
    return { version: template.version };
  }

  /** Shows what the template would change. The form has the whole query, whose signature is checked once more. */
  @Get(apply)
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
  @Header('referrer-policy', 'no-referrer')
  show(@Param('provider') provider: string, @Param('service') service: string, @Req() { url }: FastifyRequest): string {
    assertOurs(provider, service);
    const query = url.slice(url.indexOf('?') + 1);
    return page(this.applicationOf(query), query);
  }

  /** Places the records, and sends the browser back. */
  @Post('apply')
  @Redirect()
  place(@Body() body: unknown): { url: string; statusCode: number } {
    const query = /^query=(\S+)\s*$/.exec(typeof body === 'string' ? body : '')?.[1];
    if (query === undefined) throw new BadRequestException('Send the form of the page, as text/plain.');
    const { changes, returnTo } = this.applicationOf(query);
    for (const { name, type, after } of changes) {
      if (type !== 'CNAME' && this.zone.values(name, 'CNAME').length > 0) this.zone.set(name, 'CNAME', []);
      this.zone.set(name, type, after);
    }
    return { url: returnTo, statusCode: 303 };
  }

  /**
   * Reads a query that is signed by the key that its service publishes.
   *
   * @throws {BadRequestException}
   */
  private applicationOf(query: string): Application {
    const fields = new URLSearchParams(query);
    const signed = query
      .split('&')
      .filter((field) => !/^(sig|key)=/.test(field))
      .join('&');
    const key = this.publicKey(`${fields.get('key')}.${template.syncPubKeyDomain}`);
    const signature = Buffer.from(fields.get('sig') ?? '', 'base64');
    if (!key || !verify('sha256', Buffer.from(signed), key, signature))
      throw new BadRequestException('The link is not signed by the key that its service publishes.');
    const zone = canonical(fields.get('domain') ?? '');
    const domain = [fields.get('host') ?? '', zone].filter((part) => part !== '').join('.');
    const groups = fields.get('groupId')?.split(',');
    const wanted = template.records.filter(({ groupId }) => groups?.includes(groupId) ?? true);
    const valued = (text: string) =>
      text.replace(/%(\w{1,20})%/g, (_, name: string) => {
        const value = fields.get(name);
        if (value === null) throw new BadRequestException(`The link has no ${name}.`);
        return value;
      });
    const changes = wanted.map((record): Change => {
      const name = canonical(record.host === '@' ? domain : `${valued(record.host)}.${domain}`);
      const type = record.type === 'SPFM' ? 'TXT' : record.type;
      const before = this.zone.values(name, type);
      return { name, type, before, after: afterwards(record, before, valued) };
    });
    return { zone, domain, changes, returnTo: fields.get('redirect_uri') ?? '/' };
  }

  private publicKey(name: string) {
    const parts = this.zone
      .resolve(name, 'TXT')
      .answers.flatMap((answer) => (answer.type === 'TXT' ? [String(answer.data)] : []))
      .flatMap((text) => {
        const [, number, data] = /^p=(\d{1,2}),a=RS256,d=([\w+/=]+)$/.exec(text) ?? [];
        return number === undefined ? [] : [{ number: Number(number), data: data! }];
      })
      .sort((a, b) => a.number - b.number);
    try {
      const der = Buffer.from(parts.map(({ data }) => data).join(''), 'base64');
      return createPublicKey({ key: der, format: 'der', type: 'spki' });
    } catch {
      return undefined;
    }
  }
}

type TemplateRecord = (typeof template.records)[number];

/** Gives the values of a type at a name once a record of the template is applied there. */
function afterwards(record: TemplateRecord, before: readonly string[], valued: (text: string) => string): string[] {
  if (record.type === 'MX') return [`${record.priority} ${valued(record.pointsTo)}`];
  if (record.type === 'CNAME') return [valued(record.pointsTo)];
  if (record.type === 'TXT')
    return [...before.filter((value) => !value.startsWith(record.txtConflictMatchingPrefix)), valued(record.data)];
  const spf = before.find((value) => /^v=spf1( |$)/.test(value));
  const missing = record.spfRules.split(' ').filter((rule) => !spf?.split(' ').includes(rule));
  const merged = spf === undefined ? `v=spf1 ${record.spfRules} ~all` : ['v=spf1', ...missing, spf.slice(7)].join(' ');
  return [...before.filter((value) => value !== spf), merged];
}

function assertOurs(provider: string, service: string): void {
  if (provider !== template.providerId || service !== template.serviceId)
    throw new NotFoundException(`There is no template ${provider}/${service} here.`);
}

const escaped = (text: string): string => text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);

function page({ zone, domain, changes, returnTo }: Application, query: string): string {
  const rows = changes.map(({ name, type, before, after }) => {
    const cells = [name, type, before.join('\n') || '(nothing)', after.join('\n')];
    return `<tr>${cells.map((cell) => `<td><pre>${escaped(cell)}</pre></td>`).join('')}</tr>`;
  });
  return `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sandbox DNS: connect ${escaped(domain)}</title></head>
<body>
<h1>Connect ${escaped(domain)} to ${escaped(template.providerName)}?</h1>
<p>A DNS provider would ask you to sign in first. This would change the zone ${escaped(zone)}:</p>
<table><thead><tr><th>Name</th><th>Type</th><th>Now</th><th>Afterwards</th></tr></thead><tbody>
${rows.join('\n')}
</tbody></table>
<form method="post" action="/domain-connect/apply" enctype="text/plain">
<input type="hidden" name="query" value="${escaped(query)}">
<button type="submit">Connect</button> <a href="${escaped(returnTo)}">Cancel</a>
</form>
</body>
</html>
`;
}
