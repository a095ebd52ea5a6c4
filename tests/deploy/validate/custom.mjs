// Validates custom resources with the models of npm packages. Reads a JSON list of objects from standard input, and writes a JSON
// list with null or the problem of each.

import * as certManager from '@kubernetes-models/cert-manager/cert-manager.io/v1';
import * as istioExtensions from '@kubernetes-models/istio/extensions.istio.io/v1alpha1';
import * as istioNetworking from '@kubernetes-models/istio/networking.istio.io/v1';
import * as istioNetworkingAlpha from '@kubernetes-models/istio/networking.istio.io/v1alpha3';
import * as gatewayApi from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1';
import * as prometheus from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';

const MODELS = {
  'cert-manager.io/v1': certManager,
  'extensions.istio.io/v1alpha1': istioExtensions,
  'gateway.networking.k8s.io/v1': gatewayApi,
  'monitoring.coreos.com/v1': prometheus,
  'networking.istio.io/v1': istioNetworking,
  'networking.istio.io/v1alpha3': istioNetworkingAlpha,
};

// The models accept unknown fields. Their validators read every field that they have a schema for, so a field that none has read
// is unknown. A free-form object is one whose fields are all unread.
function watched(value, path, unread) {
  if (typeof value !== 'object' || value === null) return value;
  const read = new Set();
  const children = {};
  unread.push(() => {
    const names = Object.keys(value);
    const all = names.filter((name) => !read.has(name)).map((name) => `${path}.${name}`);
    return all.length === names.length ? [] : all;
  });
  return new Proxy(value, {
    get(target, name) {
      if (typeof name === 'string') read.add(name);
      const child = Reflect.get(target, name);
      if (typeof child !== 'object' || child === null || typeof name !== 'string') return child;
      return (children[name] ??= watched(child, `${path}.${name}`, unread));
    },
  });
}

function problem(thing) {
  const Model = MODELS[thing.apiVersion]?.[thing.kind];
  if (!Model) return `no schema for ${thing.apiVersion} ${thing.kind}`;
  const unread = [];
  try {
    Model.prototype.validate.call(watched(thing, '', unread));
  } catch (error) {
    return String(error.message ?? error);
  }
  const unknown = unread.flatMap((names) => names());
  return unknown.length > 0 ? `unknown fields: ${unknown.join(', ')}` : null;
}

let text = '';
for await (const chunk of process.stdin) text += chunk;
console.log(JSON.stringify(JSON.parse(text).map(problem)));
