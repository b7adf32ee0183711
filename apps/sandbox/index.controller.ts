import { Controller, Get, Headers, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { pagePolicy, sandboxPage } from './page.controller';

@Controller()
export class IndexController {
  /** Gives the page to a browser, and a list of what there is to every other client. */
  @Get()
  async index(
    @Headers('accept') accept: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | string> {
    void reply.header('vary', 'accept');
    if (accept?.includes('text/html')) {
      void reply.headers({
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': pagePolicy,
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
      });
      return sandboxPage();
    }
    return {
      page: 'for a browser, at this address',
      what: 'A sandbox for sendmux-domains: SES v2, two DoH resolvers over one zone, and an SMTP server that delivers nothing.',
      zone: {
        'GET /zone?name=': 'all records, or those at a name and below it',
        'PUT /zone/{name}/{type}': 'a JSON array of values, such as ["10 mail.sendmux.ai"]; A, CNAME, MX, NS, TXT',
        'DELETE /zone/{name}/{type}': 'all values of a type',
        'DELETE /zone/{name}': 'all at a name',
        'POST /zone/place':
          'place all records of a domain: send dns_records, the whole answer of the API, or {"zone_file":"…"} for BIND',
        'POST /zone/remove': 'remove them again',
      },
      domain_connect: {
        '/domain-connect': 'a DNS provider that takes the template of Sendmux, for every zone: GET /setup links to it',
      },
      mails: {
        'GET /mails?to=': 'caught mails, the newest first',
        'GET /mails/{id}': 'one of them',
        'GET /mails/{id}/html': 'one to look at',
        'DELETE /mails': 'forget them',
      },
      faults: {
        'GET /faults': 'what can go wrong, and what does now',
        'PUT /faults/{ses|doh-a|doh-b|smtp}':
          '{"mode":"…"}; also "times": n, for late "after_ms": n, for ses "operations": ["CreateEmailIdentity"]',
        'DELETE /faults': 'all well again; DELETE /faults/{api} for one',
      },
      ses: {
        '/v2/email/identities': 'the API of Amazon SES v2, for the AWS SDK: the status follows the CNAMEs in the zone',
        'GET /ses/identities': 'all identities, with their tags',
        'GET /ses/tenants': 'all tenants, with their resources',
        'GET /ses/calls': 'what SES was asked, oldest first',
        'GET /ses/regions':
          'the Regions that were called, each with its identities; the signature of a call names its Region',
        'PUT /ses/regions/{region}':
          '{"capacity":…,"calls_per_second":…,"is_away":true}: what it may have, how fast, and whether it answers',
        'PUT /ses/identities/{name}': 'an identity of somebody else; {"Tags":[{"Key":"…","Value":"…"}]}',
      },
      dns: 'the next port: /resolver-a/dns-query, /resolver-b/dns-query, over HTTP/2 in clear text (RFC 8484)',
      smtp: 'the port after it',
    };
  }
}
