import { Controller, Get } from '@nestjs/common';

@Controller()
export class IndexController {
  @Get()
  index(): object {
    return {
      what: 'A sandbox for sendmux-domains: SES v2, two DoH resolvers over one zone, and an SMTP server that delivers nothing.',
      zone: {
        'GET /zone?name=': 'all records, or those at a name and below it',
        'PUT /zone/{name}/{type}': 'a JSON array of values, such as ["10 mail.sendmux.ai"]',
        'DELETE /zone/{name}/{type}': 'one RRset',
        'DELETE /zone/{name}': 'all at a name',
        'POST /zone/place': 'place all records of a domain: send the answer of the API',
        'POST /zone/remove': 'remove them again',
      },
      mails: {
        'GET /mails?to=': 'caught mails, the newest first',
        'GET /mails/{id}/html': 'one to look at',
        'DELETE /mails': '',
      },
      faults: {
        'GET /faults': 'what can go wrong',
        'PUT /faults/{api}': '{"mode":"…"}',
        'DELETE /faults': 'all well again',
      },
      ses: {
        'GET /ses/identities': '',
        'GET /ses/calls': '',
        'PUT /ses/identities/{name}': 'an identity of somebody else',
      },
    };
  }
}
